"""`gptkit generate` and `gptkit next`, as typed."""

import io
import json
import subprocess
import sys

import pytest

import gptkit
from gptkit.cli import main
from gptkit.errors import UserError
from gptkit.generate.loop import generate
from gptkit.generate.samplers import Sample
from gptkit.text.tokenizers.plain import ByteTokenizer
from tiny import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model directory with the tokenizer `byte`, and a sampler in its config."""
    model = tiny(vocab_size=256, position="rotary").float()
    model.tokenizer = ByteTokenizer()
    model.config = {**model.config, "tokenizer": {"name": "byte"}}
    place = gptkit.save(model, tmp_path_factory.mktemp("models") / "mine")
    config = json.loads((place / "config.json").read_text())
    config["sampler"] = {"name": "sample", "temperature": 0.5}
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.fixture
def say(folder, capsys, monkeypatch):
    """Run a command on the model; returns (exit code, standard output, standard error)."""

    def command(verb, *words, stdin=None, run=folder):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        code = main([verb, *([f"run={run}"] if run else []), *words])
        out, err = capsys.readouterr()
        return code, out, err

    return command


def said(folder, prompt, **options):
    model = gptkit.load(folder)
    options.setdefault("sampler", Sample(temperature=0.5))
    return generate(model, model.tokenizer, prompt, **options)


def test_generate_prints_the_prompt_and_goes_on(say, folder):
    code, out, err = say("generate", "prompt=To be", "max_tokens=30", "seed=3", "device=cpu")
    assert (code, err) == (0, "")
    assert out == "To be" + said(folder, "To be", max_tokens=30, seed=3)[0] + "\n"


def test_sampler_options_are_given_bare_or_in_full_and_change_the_run_s_own(say, folder):
    words = [
        "prompt=To",
        "max_tokens=20",
        "temperature=2.5",
        "sampler.top_k=7",
        "min_p=0.01",
        "repetition_penalty=1.1",
    ]
    code, out, _ = say("generate", *words, "top_p=null")
    expected = Sample(temperature=2.5, top_k=7, min_p=0.01, repetition_penalty=1.1)
    assert (code, out) == (0, "To" + said(folder, "To", max_tokens=20, sampler=expected)[0] + "\n")
    assert say("generate", "prompt=To", "max_tokens=20", "top_k=3")[1] == (
        "To" + said(folder, "To", max_tokens=20, sampler=Sample(temperature=0.5, top_k=3))[0] + "\n"
    )
    assert say("generate", "prompt=To", "max_tokens=20", "sampler=greedy")[1] == (
        "To" + said(folder, "To", max_tokens=20, sampler="greedy")[0] + "\n"
    )
    assert say("generate", "prompt=To", "max_tokens=20", "sampler=sample")[1] == (
        "To" + said(folder, "To", max_tokens=20, sampler=Sample())[0] + "\n"
    )


PROMPTS = [
    "a=b",
    "x, y: [1,2] {z}",
    "'it''s' \"so\"",
    "two\nlines\n",
    "né😀",
    "${seed}",
    "_target_=os.system",
    "",
    "-",
    "--x",
    "\\n",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_may_hold_anything(prompt, say, folder):
    words, stdin = (["prompt=-"], b"-\n") if prompt == "-" else ([f"prompt={prompt}"], None)
    code, out, _ = say("generate", *words, "max_tokens=4", "--json", stdin=stdin)
    told = json.loads(out)
    assert (code, told["prompt"]) == (0, prompt)
    assert told["samples"][0]["text"] == said(folder, prompt, max_tokens=4)[0]


@pytest.mark.parametrize(
    ("data", "prompt"), [(b"To be\n", "To be"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), ("é=1".encode(), "é=1")]
)
def test_a_prompt_from_standard_input_loses_one_line_end(data, prompt, say):
    code, out, _ = say("next", "prompt=-", "k=1", "--json", stdin=data)
    assert (code, json.loads(out)["prompt"]) == (0, prompt)


def test_standard_input_that_is_no_text_is_told(say):
    code, _, err = say("generate", "prompt=-", stdin=b"ab\xff")
    assert (code, err) == (2, "prompt: standard input is not UTF-8 at byte 2.\n")


def test_several_samples_stop_strings_and_json(say, folder):
    texts = said(folder, "To", samples=3, max_tokens=25)
    code, out, _ = say("generate", "prompt=To", "samples=3", "max_tokens=25")
    assert code == 0
    assert out == "".join(f"--- sample {i} of 3 ---\nTo{text}\n" for i, text in enumerate(texts, 1))
    stop = texts[1][3]
    code, out, _ = say(
        "generate", "prompt=To", "samples=3", "max_tokens=25", f"stop={stop}", "stop=\\n", "--json"
    )
    told = json.loads(out)
    assert [one["text"] for one in told["samples"]] == [text.split(stop)[0].split("\n")[0] for text in texts]
    assert told["samples"][1]["ended"] == "stop"
    assert told["sampler"] == {"name": "sample", "temperature": 0.5}
    assert (
        say(
            "generate",
            "prompt=To",
            "samples=3",
            "max_tokens=25",
            f"stop={json.dumps([stop, chr(10)])}",
            "--json",
        )[1]
        == out
    )


def test_all_mistakes_are_told_at_once(say):
    code, out, err = say(
        "generate", "promt=x", "max_tokens=-1", "samples=two", "seed=1.5", "temprature=1", "device=gpu", "To be",
        "k=3", "stop=", "step=x", "top_p=1.5", "prompt=a", "prompt=b", run="nowhere",
    )  # fmt: skip
    assert (code, out) == (2, "")
    for part in (
        "promt: no such key. Did you mean 'prompt'?",
        "max_tokens: expected a whole number of 0 or more, got -1.",
        "samples: expected a whole number, got the text 'two'.",
        "seed: expected a whole number, got the number 1.5.",
        "temprature: no such key. Did you mean 'temperature'?",
        "device: expected auto, cpu, cuda, cuda:N or mps, got 'gpu'.",
        "'To be': expected key=value",
        "k: no such key.",
        "stop: expected a text that is not empty.",
        "step: expected a whole number or null",
        "sampler.top_p: expected a number from 0 to 1",
        "prompt: is given twice.",
        "There is no run 'nowhere'",
    ):
        assert part in err
    assert "Traceback" not in err


MISTAKES = [
    (["sampler=gredy"], "there is no sampler named 'gredy'. Did you mean 'greedy'?"),
    (["sampler=greedy", "top_k=3"], "top_k: the sampler 'greedy' takes no such option. Add sampler=sample."),
    (["top_k=0"], "sampler.top_k: expected a whole number of 1 or more, or null to leave it out, got 0."),
    (["top_k=2.5"], "top_k: expected a whole number or null, got the number 2.5."),
    (["temperature=nan"], "sampler.temperature: expected a finite number, got nan."),
    (["temperature=-1"], "sampler.temperature"),
    (["repetition_penalty=0"], "sampler.repetition_penalty: expected a number above 0"),
    (["min_p=inf"], "sampler.min_p"),
    (["--jsno"], "Did you mean '--json'?"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_is_told(words, message, say):
    code, out, err = say("generate", *words)
    assert (code, out) == (2, "")
    assert message in err


def test_mistakes_are_told_before_torch_is_imported(folder):
    commands = [
        ["generate", f"run={folder}", "temprature=1"],
        ["generate", f"run={folder}", "temperature=-1"],
        ["generate", "run=nowhere"],
        ["next", f"run={folder}", "promt=x"],
        ["next", "run=nowhere"],
    ]
    code = (
        "import sys; from gptkit.cli import main; "
        f"codes = [main(command) for command in {commands!r}]; print(codes, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[2, 2, 2, 2, 2] False\n"
    assert "Traceback" not in told.stderr


def test_next_shows_bars(say):
    code, out, err = say("next", "prompt=To be", "k=5")
    assert (code, err) == (0, "")
    lines = out.rstrip("\n").split("\n")
    assert lines[0].strip() == "To be …"
    assert len(lines) == 7
    assert lines[1].lstrip().startswith("1 ")
    assert "█" in lines[1]
    assert lines[-1].startswith("all others together")
    assert "\x1b" not in out


def test_next_as_json_and_as_a_picture(say, folder, tmp_path):
    _, out, err = say("next", "prompt=To be", "k=4", "--json", f"out={tmp_path / 'next.svg'}")
    told = json.loads(out)
    model = gptkit.load(folder)
    from gptkit.generate.next_tokens import next_tokens

    expected = next_tokens(model, model.tokenizer, "To be", 4)
    assert [(t["id"], t["text"], t["probability"]) for t in told["tokens"]] == [
        (t.id, t.text, t.probability) for t in expected
    ]
    assert told["others"] == pytest.approx(1 - sum(t.probability for t in expected))
    assert "next.svg" in err
    assert (tmp_path / "next.svg").read_text("utf-8").startswith("<svg")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["k=0"], "k: expected a whole number of 1 or more, got 0."),
        (["k=ten"], "k: expected a whole number, got the text 'ten'."),
        (["out=next.png"], "out: expected NAME.svg, got 'next.png'."),
        (["out=no/such/folder/next.svg"], "cannot be written"),
        (["temperature=1"], "temperature: no such key."),
        (["promt=x"], "Did you mean 'prompt'?"),
    ],
)
def test_a_mistake_with_next_is_told(words, message, say):
    code, _, err = say("next", *words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_model_without_a_tokenizer_is_told(say, tmp_path):
    place = gptkit.save(tiny(vocab_size=256), tmp_path / "mute")
    for verb in ("generate", "next"):
        code, _, err = say(verb, run=place)
        assert code == 2
        assert "has no tokenizer" in err


def test_a_terminal_is_given_no_control_characters(monkeypatch):
    from gptkit.cli.generate import show

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    show("a\x1b[2Jb\n\tc")
    assert terminal.getvalue() == "a·[2Jb\n\tc"


def test_an_encoding_that_lacks_signs_stops_nothing(folder):
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gptkit", "next", f"run={folder}", "prompt=é ", "k=3"]
    told = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"#" in told.stdout
    assert b"?" in told.stdout


def test_all_options_out_of_range_are_told_at_once(say):
    code, out, err = say("generate", "top_k=-1", "top_p=2", "min_p=5")
    assert (code, out) == (2, "")
    assert [f"sampler.{name}: expected" in err for name in ("top_k", "top_p", "min_p")] == [True] * 3


def test_what_a_sampler_refuses_hides_no_other_mistake(say, monkeypatch):
    def refuse(self, **options):
        raise UserError("it is too warm")

    monkeypatch.setattr(Sample, "__init__", refuse)
    code, out, err = say("generate", "samples=0", "temperature=3")
    assert (code, out) == (2, "")
    assert "samples: expected" in err
    assert "it is too warm" in err
