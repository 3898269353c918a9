"""What deploy/ says is true: its paths exist, its names agree, its requests are answered.

No Docker engine is needed. The files are read as text, because the tests have no YAML reader.
"""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.request

import cpp_loader
import pytest
import rest_server

import keras_music as km

ROOT = pathlib.Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def read(name):
    return (DEPLOY / name).read_text(encoding="utf-8")


def settings(name):
    """The lines of a file without comments."""
    return re.sub(r"[ \t]*#.*", "", read(name))


COMPOSE, README = settings("docker-compose.yml"), read("README.md")
# {folder in the container: folder of the repository}
MOUNTS = {
    inside: (DEPLOY / outside).resolve()
    for outside, inside in re.findall(r"^ +- (\.\S*?):(/\S+):ro$", COMPOSE, re.MULTILINE)
}
# {name: folder of the repository}
MODELS = {
    name: MOUNTS.get(folder)
    for name, folder in re.findall(r'name: "(\w+)"\s+base_path: "(\S+)"', settings("models.config"))
}
# The requests of both pages are sent.
PAGES = README + (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^```bash\n(.*?)^```", PAGES, re.MULTILINE | re.DOTALL)
# (path of the URL, body of the request)
REQUESTS = re.findall(
    r"curl -s http://127\.0\.0\.1:8501(/\S+) -d '(.*?)'", "".join(COMMANDS), re.DOTALL
)
PIPES = [block for block in COMMANDS if "> new.mid" in block]


@pytest.fixture(scope="module")
def url():
    try:
        cpp_loader.library_paths()
    except ImportError as error:
        pytest.skip(str(error))
    with rest_server.serve(MODELS) as url:
        yield url


def test_the_image_is_a_version_and_the_same_everywhere():
    assert re.findall(r"image: (\S+)", COMPOSE) == [rest_server.IMAGE]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", rest_server.IMAGE)
    assert rest_server.IMAGE in (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_is_published_beyond_this_machine_and_nothing_can_be_written_to():
    published = re.findall(r'^ +- "?([\d.:]+)"?$', COMPOSE, re.MULTILINE)
    assert published == ["127.0.0.1:8501:8501", "127.0.0.1:8500:8500"]
    volumes = COMPOSE.partition("volumes:")[2].partition("restart:")[0]
    assert volumes.count(" - ") == len(MOUNTS) == 3  # each ends in :ro


def test_what_is_mounted_is_there():
    for inside, outside in MOUNTS.items():
        assert outside.exists(), inside
    flags = read("docker-compose.yml")
    for file in re.findall(r"--\w+_file=(\S+)", flags):  # also the one that is switched off
        assert (MOUNTS["/config"] / file.removeprefix("/config/")).is_file()
    assert "--enable_batching" not in COMPOSE
    assert "# - --enable_batching=true\n" in flags


def test_the_models_are_those_of_the_repository():
    assert list(MODELS) == ["bach", "shakespeare"]
    for folder in MODELS.values():
        assert folder.parent == ROOT / "saved_models"
        assert (folder / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", ["models.config", "batching.config"])
def test_the_configs_are_protobuf_text(name):
    """Braces in pairs, and nothing but fields that the messages have."""
    text = settings(name)
    assert text.count("{") == text.count("}")
    fields = set(re.findall(r"(\w+)\s*[:{]", text))
    known = {
        "models.config": {"model_config_list", "config", "name", "base_path", "model_platform"},
        "batching.config": {
            "max_batch_size",
            "batch_timeout_micros",
            "num_batch_threads",
            "max_enqueued_batches",
            "pad_variable_length_inputs",
            "value",
        },
    }
    assert fields == known[name]
    left = re.sub(r'\w+\s*\{|\}|\w+:\s*("[^"]*"|\d+|true)', "", text)
    assert not left.strip()


@pytest.mark.parametrize("path, body", REQUESTS, ids=range(len(REQUESTS)))
def test_the_requests_of_the_readme_are_answered(url, path, body):
    request = json.loads(body)
    with urllib.request.urlopen(url + path, body.encode(), timeout=60) as reply:
        (answer,) = json.load(reply)["predictions"]
    if "describe" in body:
        assert json.loads(answer["card_json"])["max_num_tokens"] >= 512
        km.tokenizers.from_json(answer["tokenizer_json"])
    elif "bach" in path:
        midi = base64.b64decode(answer["midi_bytes"]["b64"])
        assert len(km.read_midi(midi)) > 50
    else:
        (row,) = request["instances"]
        assert answer["text"].startswith(row["prompt"])
        assert len(answer["text"]) == len(row["prompt"]) + row["num_tokens"]


@pytest.mark.parametrize("command", PIPES, ids=["python", "jq", "README"])
def test_the_commands_write_a_midi_file(url, command, tmp_path):
    """As they stand, but for the port; `python3` is this Python."""
    for tool in ("curl", *(["jq", "base64"] if "jq" in command else [])):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    command = command.replace("http://127.0.0.1:8501", url).replace("python3", sys.executable)
    subprocess.run(["bash", "-o", "pipefail", "-ec", command], cwd=tmp_path, check=True)
    assert len(km.read_midi(tmp_path / "new.mid")) > 50


def test_the_python_of_the_readme(url):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    namespace = {}
    exec(compile(code.replace("http://127.0.0.1:8501", url), "README.md", "exec"), namespace)
    assert len(namespace["piece"]) > 50
    bach = km.load(MODELS["bach"])
    same = bach.generate(num_tokens=512, temperature=0.9, top_p=0.95, seed=3)
    assert namespace["piece"].notes.equals(same.notes)


def test_the_health_check_finds_the_model_and_misses_another(url):
    folded = re.search(r"- >-\n(.*?)\n +interval:", COMPOSE, re.DOTALL)[1]
    check = " ".join(folded.split()).replace("8501", url.rpartition(":")[2])
    for command, is_healthy in ((check, True), (check.replace("bach", "nobody"), False)):
        answer = subprocess.run(["bash", "-c", command], timeout=20, capture_output=True)
        assert (answer.returncode == 0) == is_healthy, answer.stderr
    nobody = re.sub(r"/\d+ &&", "/9 &&", check)
    assert subprocess.run(["bash", "-c", nobody], timeout=20, capture_output=True).returncode


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(link):
    assert (DEPLOY / link).exists()
