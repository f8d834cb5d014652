"""The command `vqtools blocks`: texts that prompts include by name. Knows flags and messages, not the file format."""

from __future__ import annotations

import click

from vqtools.cli.options import debug_option


def add_blocks(prompt: str, names: tuple[str, ...]) -> str:
    """Return the prompt with the named blocks added; unchanged, down to its spaces, if there are none."""
    from vqtools.painting import prompt_blocks

    return prompt_blocks.add_blocks(prompt, names) if names else prompt


@click.command()
@click.option("--edit", is_flag=True, help="Copy the shipped blocks to a file of your own, and print its path.")
@debug_option
def blocks(edit: bool) -> None:
    """List texts to add to prompts, by name: vqtools paint "a castle" --with watercolour --with no-lettering."""
    from vqtools.painting.prompt_blocks import create_user_file, load_blocks, user_file

    if edit:
        click.echo(str(create_user_file()))
        return
    for group, texts in load_blocks().items():
        click.echo(f"[{group}]")
        for name, text in texts.items():
            click.echo(f"  {name:16} {text}")
    path = user_file()
    click.echo(f"yours, in {path}" if path.exists() else "change them with: vqtools blocks --edit")
