"""The notebooks in a real JupyterLab, in Chromium, operated through its user interface."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from vqtools.animation.project import Project
from vqtools.media.png_record import read_record

pytestmark = pytest.mark.browser

COLAB_VERSIONS = (
    "ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython==7.34.0", "jupyterlab==3.6.*", "jupyterlab-widgets==1.1.*",
    "anywidget", "setuptools<80",
)  # fmt: skip
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
KERNEL_IS_READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
STOPWATCH = """text => {
  const watch = window.watch = { start: 0, end: 0 };
  for (const kind of ["pointerdown", "keydown"])
    document.addEventListener(kind, () => { watch.start = performance.now(); }, true);
  const lines = [...document.querySelectorAll(".vqtools-panel .vqtools-status")];
  const status = lines.filter(line => line.offsetParent).pop();
  const check = () => {
    if (watch.start && !watch.end && status.innerText.includes(text)) watch.end = performance.now();
  };
  new MutationObserver(check).observe(status, { subtree: true, childList: true, characterData: true });
}"""
LONG = 180  # seconds; networks are loaded in this time, on slow machines too


def wait_until(condition: Callable[[], bool], what: str, seconds: float = LONG) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class Lab:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.panel = page.locator(".vqtools-panel:visible").last
        self.picture = self.panel.locator(".vqtools-picture img")

    def run_all(self) -> None:
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")

    def running(self) -> int:
        """Return the number of cells that run or are queued."""
        return sum("*" in text for text in self.page.locator(".jp-InputPrompt").all_inner_texts())

    def button(self, text: str) -> Locator:
        return self.panel.get_by_role("button", name=text, exact=True)

    def status(self) -> str:
        return self.panel.locator(".vqtools-status").first.inner_text()  # an animation's curves have one, too

    def says(self, text: str) -> None:
        """Wait until the status line contains the text."""
        wait_until(lambda: text in self.status(), f"{text!r} in the status line, which says {self.status()!r}")

    def type(self, name: str, text: str) -> None:
        self.panel.get_by_label(name, exact=True).fill(text)
        self.page.keyboard.press("Tab")

    def changes(self) -> None:
        """Wait until the picture changes."""
        before = self.picture.screenshot()
        wait_until(lambda: self.picture.screenshot() != before, "another picture")

    def seconds(self, action: Callable[[], None], text: str) -> float:
        """Return the seconds from a click or a key until the status line contains the text."""
        self.page.evaluate(STOPWATCH, text)
        action()
        self.page.wait_for_function("() => window.watch.end")
        return float(self.page.evaluate("() => (window.watch.end - window.watch.start) / 1000"))

    def step_seconds(self) -> float:
        """Return the mean seconds per step of a run, over its next ten steps."""

        def position() -> int:
            match = re.match(r"(\d+) of .* it/s", self.status())
            return int(match[1]) if match else 0

        wait_until(lambda: position() > 0, "the rate")
        first, started = position(), time.monotonic()
        wait_until(lambda: position() >= first + 10, "ten steps")
        return (time.monotonic() - started) / (position() - first)

    def draw(self) -> None:
        """Draw a stroke from left to right over the upper half of the picture."""
        area = self.panel.locator(".vqtools-canvas canvas").bounding_box()
        assert area is not None
        self.page.mouse.move(area["x"] + 0.2 * area["width"], area["y"] + 0.25 * area["height"])
        self.page.mouse.down()
        for i in range(10):
            x = area["x"] + (0.2 + 0.06 * i) * area["width"]
            self.page.mouse.move(x, area["y"] + (0.25 + 0.02 * (i % 2)) * area["height"])
        self.page.mouse.up()

    def errors(self) -> list[str]:
        kinds = ("application/vnd.jupyter.stderr", "application/vnd.jupyter.error")
        shown = [self.page.locator(f".jp-OutputArea [data-mime-type='{kind}']").all_inner_texts() for kind in kinds]
        broken = self.page.locator(".jupyter-widgets-error-widget").all_inner_texts()
        return self.faults + shown[0] + shown[1] + broken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(NOTEBOOKS, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def lab(folder: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with open_notebook(folder, request.param, sys.executable) as lab:
        yield lab


@pytest.fixture(scope="session")
def colab_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with Colab's versions of ipywidgets and ipykernel, and JupyterLab 3.

    VQTOOLS_OLDER names an existing one. All other packages, such as torch, come from this environment.
    """
    if python := os.environ.get("VQTOOLS_OLDER"):
        return python
    environment = tmp_path_factory.mktemp("colab") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *COLAB_VERSIONS], check=True)
    # after its own packages: missing ones are taken from this environment and this checkout
    fallbacks = [str(Path(__file__).parents[2]), *(path for path in sys.path if path.endswith("site-packages"))]
    folder = next((environment / "lib").glob("python*/site-packages"))
    (folder / "fallbacks.pth").write_text("\n".join(fallbacks) + "\n")
    return python


@contextlib.contextmanager
def open_notebook(folder: Path, notebook: str, python: str) -> Iterator[Lab]:
    """Open a notebook in Chromium, in its own JupyterLab server."""
    with jupyterlab(folder, python) as address, sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(LONG * 1000)
        page.goto(f"{address}/doc/tree/{notebook}?reset")
        page.wait_for_selector(".jp-Notebook")
        page.wait_for_function(KERNEL_IS_READY)
        yield Lab(page)
        browser.close()


@contextlib.contextmanager
def jupyterlab(folder: Path, python: str = sys.executable) -> Iterator[str]:
    """Start a JupyterLab server for the block, and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += ["--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True"]
    environment = {name: value for name, value in os.environ.items() if name != "VQTOOLS_QUICK"}
    environment |= {f"JUPYTERLAB_{kind}_DIR": str(folder / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')  # the dialog about news would cover the page
    with open(folder / "server.log", "wb") as log:
        command = [python, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        end = time.monotonic() + 60
        while True:
            assert server.poll() is None and time.monotonic() < end, (folder / "server.log").read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def run_all_and_stop(lab: Lab, pictures: Path) -> None:
    """Stop ends the awaiting cell, the picture is saved, and the cells below run."""
    before = len(list(pictures.glob("*.png")))
    lab.run_all()
    lab.says(" of ")
    assert lab.running()
    lab.button("Stop").click()
    lab.says("Stopped at")
    wait_until(lambda: lab.running() == 0, "the end of Run All")
    assert len(list(pictures.glob("*.png"))) == before + 1
    assert "'prompt': 'a red apple'" in lab.page.locator(".jp-OutputArea-executeResult").last.inner_text()


@pytest.mark.parametrize("lab", ["01_train_vqgan.ipynb"], indirect=True)
def test_a_vqgan_training_is_stopped_and_continued(lab: Lab, folder: Path) -> None:
    lab.run_all()
    lab.says(" of ")
    lab.changes()
    lab.button("Stop").click()
    lab.says("Train continues from here")
    wait_until(lambda: lab.running() == 0, "the end of Run All")
    stopped = max(int(path.stem.split("-")[1]) for path in (folder / "my-watercolours").glob("state-*"))
    lab.button("Train").click()
    wait_until(lambda: (at := re.match(r"(\d+) of ", lab.status())) is not None and int(at[1]) > stopped, "more steps")
    wait_until(lambda: "loss" in lab.panel.locator(".vqtools-curves").inner_text(), "the curves")
    lab.button("Pause").click()
    lab.says("Paused at")
    lab.button("Stop").click()
    lab.says("Train continues from here")


@pytest.mark.parametrize("lab", ["04_paint.ipynb"], indirect=True)
def test_pictures_are_painted_paused_stopped_and_saved(lab: Lab, folder: Path) -> None:
    pictures = folder / "pictures"
    run_all_and_stop(lab, pictures)

    lab.type("prompt", "a <b>sailing</b> boat")
    lab.panel.get_by_label("size", exact=True).fill("64")
    lab.panel.get_by_label("×", exact=True).fill("64")
    lab.type("iterations", "5000")
    lab.button("Paint").click()
    lab.says(" of ")
    assert lab.running() == 0  # the kernel is free
    lab.changes()
    lab.changes()
    lab.button("Pause").click()
    lab.says("Paused at")
    lab.button("Resume").click()
    lab.says(" left")
    lab.button("Stop").click()
    lab.says("Stopped at")
    assert list(pictures.glob("a-b-sailing-b-boat-*.png"))

    lab.type("size", "65")
    lab.button("Paint").click()
    lab.says("width 65 is not a multiple of")
    assert lab.panel.locator(".vqtools-wrong").count() == 1

    run_all_and_stop(lab, pictures)
    assert lab.errors() == []


@pytest.fixture
def only_the_panel(folder: Path) -> None:
    """Write panel.ipynb: the cells of notebook 05 up to its panel, which run within seconds."""
    page = json.loads((folder / "05_animate.ipynb").read_text("utf-8"))
    page["cells"] = [cell for cell in page["cells"] if cell["id"] in ("ready", "models", "settings", "panel")]
    (folder / "panel.ipynb").write_text(json.dumps(page), "utf-8")


@pytest.mark.usefixtures("only_the_panel")
@pytest.mark.parametrize("lab", ["panel.ipynb"], indirect=True)
def test_a_curve_is_edited_by_dragging_and_played_on_a_test_card(lab: Lab) -> None:
    lab.run_all()
    large, dots = lab.panel.locator(".vqtools-large"), lab.panel.locator("circle.vqtools-dot")
    wait_until(lambda: dots.count() == 1, "the zoom's one point")
    large.scroll_into_view_if_needed()
    area = large.bounding_box()
    assert area is not None
    lab.page.mouse.dblclick(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    wait_until(lambda: dots.count() == 2, "a second point")
    before = dots.nth(1).bounding_box()
    assert before is not None
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    lab.page.mouse.move(x, y)
    lab.page.mouse.down()
    lab.page.mouse.move(x + 60, y + 30, steps=4)
    lab.page.mouse.up()

    def frame() -> int:
        text = lab.panel.get_by_label("zoom", exact=True).input_value()
        match = re.fullmatch(r"0:\(1\.04\), (\d+):\(.*\)", text)
        return int(match[1]) if match else 0

    wait_until(lambda: frame() > 19, "the dragged point in the form")
    dots.nth(1).dblclick()
    wait_until(lambda: dots.count() == 1, "one point again")
    lab.button("Dry run").click()
    wait_until(lambda: lab.panel.locator("video").count() == 1, "the test card's video")
    assert not lab.errors()


@pytest.mark.usefixtures("only_the_panel")
@pytest.mark.parametrize("lab", ["panel.ipynb"], indirect=True)
def test_a_rewound_octave_zoom_takes_another_prompt(lab: Lab, folder: Path) -> None:
    """A folder that another process has locked is not continued."""
    lab.run_all()
    wait_until(lambda: lab.panel.locator("circle.vqtools-dot").count() == 1, "the panel")
    for name, text in {"prompt": "a red apple", "size": "64", "×": "64", "iterations": "2"}.items():
        lab.type(name, text)
    lab.button("Animate").click()
    lab.says("saved as")
    video = lab.panel.locator("video")
    wait_until(
        lambda: bool(video.count() and video.first.evaluate("video => video.currentTime > 0")), "the video to play"
    )
    note = lab.panel.locator(".vqtools-row + .vqtools-note").bounding_box()
    row = lab.panel.locator(".vqtools-row >> nth=1").bounding_box()
    assert note is not None and row is not None and abs(note["x"] - row["x"]) < 4

    film = folder / "animations" / "a-red-apple-3"
    before = [path.read_bytes() for path in sorted((film / "frames").iterdir())]
    lab.panel.locator(".vqtools-row input").first.fill("20")
    lab.page.keyboard.press("Tab")
    lab.button("Throw away").click()
    lab.says("16 frames are left; 1 of 3 pictures will be painted again")
    lab.type("prompt", "the blue sea")
    with Project.open(film).locked():
        lab.button("Resume").click()
        lab.says("is in use by another run")
        command = [sys.executable, "-m", "vqtools", "animate", "--resume", str(film)]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2 and second.stderr.count("\n") == 1 and "another run" in second.stderr
    lab.button("Resume").click()
    lab.says("saved as")
    after = [path.read_bytes() for path in sorted((film / "frames").iterdir())]
    assert after[:16] == before[:16] and all(a != b for a, b in zip(after[16:], before[16:], strict=True))
    assert read_record(film / "frames" / "frame-00035.png")["settings"]["prompt"] == "the blue sea"
    assert not lab.errors()


def edit_while_painting(lab: Lab, folder: Path) -> None:
    """Edit, undo, brush and reload the page; every action takes effect within 300 ms and one step."""
    pictures = folder / "pictures"
    run_all_and_stop(lab, pictures)
    lab.type("prompt", "a sailing boat | a <b>red</b> sea:0.5")
    lab.panel.get_by_label("size", exact=True).fill("64")
    lab.panel.get_by_label("×", exact=True).fill("64")
    lab.type("iterations", "5000")
    lab.button("Paint").click()
    lab.changes()
    wait_until(lambda: "a sailing boat" in lab.panel.locator(".vqtools-losses").inner_text(), "losses by prompt")
    step = lab.step_seconds()
    delays = {"Pause": lab.seconds(lab.button("Pause").click, "Paused at")}
    delays["Resume"] = lab.seconds(lab.button("Resume").click, " it/s")
    lab.panel.get_by_label("prompt", exact=True).fill("a lighthouse")
    delays["edit"] = lab.seconds(lambda: lab.page.keyboard.press("Tab"), "prompt changed")
    delays["Undo"] = lab.seconds(lab.button("Undo").click, "undone")
    assert lab.panel.get_by_label("prompt", exact=True).input_value().startswith("a sailing boat")
    lab.button("Brush").click()
    lab.panel.locator(".vqtools-tools select:visible").first.select_option(label="leave as it is")
    lab.draw()
    delays["region"] = lab.seconds(lab.button("Apply").click, "that stays as it is")
    lab.changes()
    lab.button("Brush").click()
    delays["Stop"] = lab.seconds(lab.button("Stop").click, "Stopped at")
    timings = ", ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in delays.items())
    print(f"milliseconds until an action took effect: {timings}; a step takes {step * 1000:.0f}")
    lab.says("saved as")
    newest = max(pictures.glob("*.png"), key=lambda path: path.stat().st_mtime)
    edits = read_record(newest)["journal"]
    assert [entry["do"] for entry in edits] == ["edit", "go", "protect"]
    assert sorted(delays.values())[len(delays) // 2] < 0.3 + step, timings

    position = lab.status().split(" · ")[0]
    lab.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    lab.page.wait_for_timeout(1500)
    lab.page.goto(lab.page.url.split("?")[0])
    lab.page.wait_for_selector(".jp-Notebook")
    lab.page.wait_for_function(KERNEL_IS_READY)
    lab.says(position)
    lab.button("Resume").click()
    lab.says(" left")
    lab.button("Stop").click()
    lab.says("Stopped at")
    assert lab.errors() == []


@pytest.mark.parametrize("lab", ["04_paint.ipynb"], indirect=True)
def test_a_picture_is_edited_while_it_forms(lab: Lab, folder: Path) -> None:
    edit_while_painting(lab, folder)


def test_a_picture_is_edited_while_it_forms_with_the_widget_versions_of_colab(folder: Path, colab_python: str) -> None:
    program = "import ipywidgets, ipykernel; print(ipywidgets.__version__, ipykernel.__version__)"
    versions = subprocess.run([colab_python, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert versions == ["7.7.1", "6.17.1"]
    with open_notebook(folder, "04_paint.ipynb", colab_python) as lab:
        edit_while_painting(lab, folder)
