"""TODO: what this module is.

Split from vqtools.cli_sheets.
"""

from __future__ import annotations

import click

from vqtools.cli.options import debug_option


def add_blocks(prompt: str, added: tuple[str, ...]) -> str:
    from vqtools.painting import prompt_blocks

    return prompt_blocks.add_blocks(prompt, added) if added else prompt


@click.command()
@click.option("--edit", is_flag=True, help="Make a file of your own from the shipped blocks, and say where it lies.")
@debug_option
def blocks(edit: bool) -> None:
    """Words to add to prompts, by name: vqtools paint "a castle" --with watercolour --with no-lettering."""
    from vqtools.painting.prompt_blocks import create_user_file, load_blocks, user_file

    if edit:
        click.echo(str(create_user_file()))
        return
    for group, named in load_blocks().items():
        click.echo(f"[{group}]")
        for name, text in named.items():
            click.echo(f"  {name:16} {text}")
    own = user_file()
    click.echo(f"yours, in {own}" if own.exists() else "make them yours: vqtools blocks --edit")
