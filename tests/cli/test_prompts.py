"""`fieldmarks prompts`: what ships, and how it reads."""

from pathlib import Path

from click.testing import CliRunner

from fieldmarks.cli import main
from fieldmarks.paths import shipped


def test_the_list_names_each_prompt(runner: CliRunner) -> None:
    result = runner.invoke(main, ["prompts", "list"])
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == ["article", "article-de", "article-zh", "differential", "sentences", "two-shot"]
    assert result.stdout.splitlines()[0] == (
        "article       bullets    What are useful features for distinguishing a {class} in a photo?"
    )


def test_a_prompt_is_shown_to_the_byte(runner: CliRunner) -> None:
    result = runner.invoke(main, ["prompts", "show", "article"])
    assert result.stdout_bytes == (shipped("prompts") / "article.txt").read_bytes() + b"\n"


def test_a_prompt_is_rendered_for_a_class(runner: CliRunner) -> None:
    result = runner.invoke(
        main, ["prompts", "show", "differential", "--class", "ounce", "--other", "leopard"]
    )
    assert result.stdout == (
        "Q: Which visible features tell a photo of an ounce from a photo of a similar leopard?\n"
        "A: A photo shows an ounce and not a similar leopard by these visible features of the ounce:\n"
        "-\n"
    )


def test_a_file_of_ones_own(runner: CliRunner, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Marks of {class}, {concept}:\n-")
    assert (
        runner.invoke(main, ["prompts", "show", str(path), "--class", "fox", "--concept", "x"]).exit_code == 0
    )
    refused = runner.invoke(main, ["prompts", "show", str(path), "--class", "fox"])
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: prompt 'mine' has {concept}, and no concept is given\n",
    )


def test_what_is_no_prompt_is_one_line(runner: CliRunner) -> None:
    refused = runner.invoke(main, ["prompts", "show", "nothing"])
    assert refused.exit_code == 1
    assert refused.stderr == (
        "Error: unknown prompt 'nothing': "
        "pass a file, or one of article, article-de, article-zh, differential, sentences, two-shot\n"
    )
