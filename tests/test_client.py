"""The client gets over REST what Python generates, and says in one sentence why it does not.

The first part asks a server: the stand-in of `rest_server`, and a real TensorFlow Serving where
there is one. The second part asks a script that answers as it is told, for what no server does on
demand.
"""

import base64
import contextlib
import http.server
import inspect
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cpp_loader
import keras
import numpy as np
import pytest
import rest_server

import keras_music as km
from keras_music.generation import Generated
from keras_music.serving import rest
from keras_music.serving.client import Client
from keras_music.serving.rest import clean

try:
    cpp_loader.library_paths()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

ROOT = Path(__file__).parents[1]
SAVED_MODELS = {"bach": "chorales", "shakespeare": "shakespeare"}  # as in deploy/models.config
TEXT = km.tokenizers.CharTokenizer("abcdefghijklmnopqrstuvwxyz RO:é\n")
MUSIC = km.tokenizers.PerformanceTokenizer(velocity_bins=4)
PIECE = km.Piece(
    {"pitch": [60, 64, 67], "start": [0.0, 0.5, 1.0], "end": [0.5, 1.0, 2.25], "velocity": 90}
)


def build(tokenizer, seed=0):
    keras.utils.set_random_seed(seed)
    model = km.build_model(tokenizer.vocab_size, "gru", embedding_dim=8, units=24, layers=1)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 8)  # a network with opinions
    return km.OneStep(model, tokenizer)


class Served(NamedTuple):
    """A server's addresses, and the same models in Python by name."""

    url: str
    models: dict
    grpc: str | None = None


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two small random models in Python, and the folder to which they were exported."""
    folder = tmp_path_factory.mktemp("served")
    models = {"bach": build(MUSIC), "shakespeare": build(TEXT)}
    for name, one_step in models.items():
        km.export(one_step, folder / name, card={"data": "none"})
    return models, folder


@pytest.fixture(scope="module")
def stand_in(small):
    models, folder = small
    with rest_server.serve({name: folder / name for name in models}) as url:
        yield Served(url, models)


@pytest.fixture(scope="module", params=["stand-in", "real"])
def server(request, small):
    models, folder = small
    folders = {name: folder / name for name in models}
    if request.param == "stand-in":
        yield request.getfixturevalue("stand_in")
        return
    with rest_server.real_server(folders) as (url, grpc):
        if "KERAS_MUSIC_SERVING_URL" in os.environ:  # it has the models of the repository
            models = {n: km.load(ROOT / "saved_models" / f) for n, f in SAVED_MODELS.items()}
        yield Served(url, models, grpc)


def same(answer, expected):
    np.testing.assert_array_equal(answer.tokens, expected.tokens)
    np.testing.assert_array_equal(answer.length, expected.length)
    np.testing.assert_allclose(answer.log_prob, expected.log_prob, atol=1e-4, rtol=1e-5)
    assert [a.dtype for a in answer] == [a.dtype for a in expected]


def test_grpc_gives_what_python_gives(server):
    """`test_warmup` sends the same bytes over a socket where there is no real server."""
    if server.grpc is None:
        pytest.skip("the stand-in speaks REST only")
    grpc_client = pytest.importorskip("grpc_client")
    controls = {
        "num_tokens": np.array([30, 20], np.int32),
        "temperature": np.array([1.0, 0.0], np.float32),
        "top_k": np.array([0, 5], np.int32),
        "top_p": np.array([0.9, 1.0], np.float32),
        "seed": np.array([5, -6], np.int64),
    }
    for name, prompt in (
        ("bach", np.array([[1, 63], [1, 0]], np.int32)),
        ("shakespeare", np.array([b"ROO", b""], object)),
    ):
        answer = grpc_client.predict(server.grpc, name, "generate", {"prompt": prompt} | controls)
        prompts = [[1, 63], [1]] if name == "bach" else ["ROO", None]
        same(
            Generated(*[answer[field] for field in Generated._fields]),
            server.models[name].generate_tokens(prompts, **controls),
        )


def test_wishes_go_to_the_server(stand_in):
    client, bach = Client(stand_in.url, "bach"), stand_in.models["bach"]
    wishes = {"pitch_classes": ["C major", None], "pitch_range": (40, 80), "max_repeats": 1}
    wishes |= {"max_notes_per_second": [None, 5]}
    answer = client.generate_tokens([PIECE, None], num_tokens=60, seed=3, **wishes)
    same(answer, bach.generate_tokens([PIECE, None], num_tokens=60, seed=3, **wishes))
    data = client.generate_midi(num_tokens=60, seed=3, pitch_classes=[0])
    assert set(km.read_midi(data).notes.pitch % 12) == {0}
    with pytest.raises(ValueError, match="`pitch_range` must be"):
        client.generate(pitch_range=60)
    with pytest.raises(ValueError, match="`max_repeats` must be asked of a model of music"):
        Client(stand_in.url, "shakespeare").generate("RO", max_repeats=1)


def test_wishes_are_asked_of_a_model_that_takes_them():
    """A model of music that was exported without its grammar has no `generate_controlled`: once it
    was asked for, and the answer was "Serving signature name ... not found".
    """
    for names in (["generate"], ["generate", "generate_controlled"]):
        about = {"tokenizer_json": MUSIC.to_json(), "card_json": json.dumps({"signatures": names})}
        described = json.dumps({"predictions": [about]}).encode()
        answer = {"tokens": [1, 63], "length": 2, "log_prob": -0.5}
        answered = json.dumps({"predictions": [answer]}).encode()
        with script(answered, describe=[described, answered]) as (url, asked):
            client = Client(url, "m")
            if "generate_controlled" in names:
                assert client.generate_tokens(num_tokens=1, max_repeats=1).length == [2]
                continue
            with pytest.raises(ValueError, match="`max_repeats` must be asked of a model of music"):
                client.generate(max_repeats=1)
            assert number_of(asked, "generate") == 0


# --- What a server answers ------------------------------------------------------------------------

MANY = {
    "num_tokens": [30, 60, 45, 1],
    "temperature": [1.0, 0.0, 1.5, 0.1],  # 0.1 is another number in float32
    "top_k": [0, 0, 20, 2**31 - 1],
    "top_p": [0.9, 1.0, 1.0, 1e-30],
    "seed": [5, -(2**63), 2**63 - 1, 0],
}


@pytest.mark.parametrize("name, prompt", [("bach", PIECE), ("shakespeare", "ROO: a")])
def test_one_prompt(server, name, prompt):
    client = Client(server.url, name)
    controls = {"num_tokens": 40, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "seed": 8}
    for p in (prompt, None, client.tokenizer.encode(prompt)[:3]):
        same(
            client.generate_tokens(p, **controls),
            server.models[name].generate_tokens(p, **controls),
        )


@pytest.mark.parametrize(
    "name, prompts",
    [
        ("bach", [PIECE, None, [1], PIECE.transpose(3)]),
        ("shakespeare", ["ROO: a", None, "", "one\nline"]),
    ],
)
def test_many_prompts_with_controls_for_each(server, name, prompts):
    client, model = Client(server.url + "/", name), server.models[name]
    same(client.generate_tokens(prompts, **MANY), model.generate_tokens(prompts, **MANY))
    same(client.generate_tokens(prompts, 9, seed=3), model.generate_tokens(prompts, 9, seed=3))


def test_it_decodes_pieces_and_text(server):
    music, text = Client(server.url, "bach"), Client(server.url, "shakespeare")
    mine = music.generate([PIECE, None], num_tokens=20, seed=2)
    theirs = server.models["bach"].generate([PIECE, None], num_tokens=20, seed=2)
    assert [p.notes.to_dict("list") for p in mine] == [p.notes.to_dict("list") for p in theirs]
    assert isinstance(music.generate(PIECE, 5), km.Piece)
    expected = server.models["shakespeare"].generate("ROO", num_tokens=20, seed=2)
    assert text.generate("ROO", num_tokens=20, seed=2) == expected
    assert text.generate(["ROO"], num_tokens=20, seed=2) == [expected]


def test_the_served_midi_file_holds_the_generated_piece(server):
    client, controls = Client(server.url, "bach"), {"num_tokens": 60, "seed": [4, 5]}
    prompts = [PIECE, PIECE.transpose(-12)]
    files = client.generate_midi(prompts, **controls)
    for data, piece in zip(files, client.generate(prompts, **controls), strict=True):
        notes, expected = km.read_midi(data).notes, piece.notes
        order = ["start", "pitch", "end"]
        notes, expected = (n.sort_values(order, ignore_index=True) for n in (notes, expected))
        assert notes["pitch"].tolist() == expected["pitch"].tolist()
        assert notes["velocity"].tolist() == expected["velocity"].tolist()
        np.testing.assert_allclose(notes[["start", "end"]], expected[["start", "end"]], atol=2e-3)
    assert client.generate_midi(PIECE, num_tokens=60, seed=4) == files[0]
    with pytest.raises(ValueError, match="`generate_midi` must be asked of a model that writes mu"):
        Client(server.url, "shakespeare").generate_midi("ROO")


def test_it_has_the_tokenizer_and_the_card_of_the_server(server):
    for name, model in server.models.items():
        client = Client(server.url, name)
        assert client.card["max_num_tokens"] >= 1
        assert client.tokenizer == model.tokenizer
        assert Client(server.url, name, model.tokenizer).generate_tokens(None, 1).length == [2]


def test_threads_may_share_a_client(server):
    client = Client(server.url, "shakespeare")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda seed: client.generate("ROO", 10, seed=seed), range(16)))
    assert answers == [server.models["shakespeare"].generate("ROO", 10, seed=s) for s in range(16)]


def test_what_the_graph_refuses_is_said_in_its_words(server):
    client = Client(server.url, "shakespeare")
    limit = client.card["max_num_tokens"]
    says = rf"^`num_tokens` must be from 1 to {limit}. Received: \[{limit + 1}\]$"
    with pytest.raises(ValueError, match=says):
        client.generate(num_tokens=limit + 1)
    with pytest.raises(ValueError, match=rf"^`prompt` must hold at most {limit} ids a row.$"):
        client.generate("a" * (limit + 1), 1)
    with pytest.raises(ValueError, match="`temperature` must be >= 0. Received: temperature=-1"):
        client.generate(temperature=-1)
    with pytest.raises(ValueError, match="`text` must be written in the tokenizer's characters"):
        client.generate("\0")


def test_a_model_that_is_not_there(server):
    says = rf"`name` must be a model that {server.url} serves. Received: 'nobody'.*models.config"
    for ask in (Client.generate, Client.generate_midi, lambda client: client.card):
        with pytest.raises(ValueError, match=says):
            ask(Client(server.url, "nobody"))


def test_a_tokenizer_that_is_not_the_servers(server):
    other = km.tokenizers.PerformanceTokenizer(velocity_bins=7)
    with pytest.raises(ValueError, match="Received: velocity_bins 7, where the server has"):
        Client(server.url, "bach", other).generate()
    with pytest.raises(ValueError, match="a PerformanceTokenizer, where the server has a CharTo"):
        Client(server.url, "shakespeare", other).generate()
    other = km.tokenizers.CharTokenizer(server.models["shakespeare"].tokenizer.characters + "ÄÖ")
    with pytest.raises(ValueError, match="Received: text 'ÄÖ', where the server has ''. The same"):
        Client(server.url, "shakespeare", other).generate()


@pytest.mark.parametrize("name, value", [("pedal", "tokens"), ("multi_program", True)])
def test_a_setting_that_is_written_only_when_it_is_used_counts(name, value):
    """Settings were compared by the names of ours: one that only the server wrote went unnoticed,
    and its ids were read with the wrong table; one that only we wrote was a KeyError.
    """
    plain = km.tokenizers.PerformanceTokenizer()
    other = km.tokenizers.PerformanceTokenizer(**{name: value})
    for mine, theirs in ((plain, other), (other, plain)):
        words = f"{name} {getattr(mine, name)!r}, where the server has {getattr(theirs, name)!r}"
        described = json.dumps({"predictions": [ABOUT | {"tokenizer_json": theirs.to_json()}]})
        says = pytest.raises(ValueError, match=f"Received: {words}. The same ids")
        with script(describe=[described.encode()]) as (url, _), says:
            Client(url, "m", mine).generate()


def test_another_version_takes_over(small, tmp_path):
    """The server drops version 1 for version 2: once with the same tokenizer, once with another."""
    _, folder = small
    base = tmp_path / "bach"
    shutil.copytree(folder / "bach", base)
    with rest_server.serve({"bach": base}) as url:
        client = Client(url, "bach")
        first = client.generate_tokens(None, 10)
        km.export(build(MUSIC, seed=1), base, card={"data": "new"})
        same(client.generate_tokens(None, 10), first)  # version 1 is still there, and is asked
        shutil.rmtree(base / "1")
        second = client.generate_tokens(None, 10)
        assert second.log_prob != first.log_prob
        assert client.card["data"] == "new"
        shutil.copytree(folder / "shakespeare" / "1", base / "3")
        shutil.rmtree(base / "2")
        for _ in range(2):  # and it stays an error
            with pytest.raises(ValueError, match="version 3,.*a PerformanceTokenizer, where the s"):
                client.generate(PIECE, 10)
        assert Client(url, "bach").tokenizer == TEXT
        shutil.rmtree(base / "3")
        with pytest.raises(ValueError, match="`name` must be a model that .* serves"):
            client.generate(PIECE, 10)


def test_a_version_that_cannot_be_loaded(small, tmp_path):
    shutil.copytree(small[1] / "bach", tmp_path / "bach")
    (tmp_path / "bach" / "1" / "variables" / "variables.index").write_bytes(b"")
    says = "knows 'bach', but has no version to serve. Received: {1: 'END'}"
    with rest_server.serve({"bach": tmp_path / "bach"}) as url:
        client = Client(url, "bach")
        with pytest.raises(RuntimeError, match=says):
            client.generate()


def test_a_client_does_not_load_tensorflow(stand_in):
    script = (
        "import sys, keras_music as km\n"
        "client = km.Client(sys.argv[1], 'shakespeare')\n"
        "print(repr(client.generate('RO', num_tokens=9, seed=3)))\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", script, stand_in.url]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert answer == repr(stand_in.models["shakespeare"].generate("RO", num_tokens=9, seed=3))


def test_a_proxy_in_the_environment_is_not_asked(stand_in, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert Client(stand_in.url, "shakespeare").card["data"] == "none"


# --- The rules of REST, which the stand-in and the real server share ------------------------------

ROW = {"prompt": [1, 63], "num_tokens": 3, "temperature": 1, "top_k": 0, "top_p": 1.0, "seed": 7}
COLUMNS = {name: [value] for name, value in ROW.items()}


def ask(url, body=None):
    """The HTTP code, and the JSON of the answer (bytes, if it is none)."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=30) as reply:
            code, answer = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            code, answer = error.code, error.read()
    with contextlib.suppress(ValueError):
        answer = json.loads(answer)
    return code, answer


RULES = {  # what is sent to "bach" -> the HTTP code
    "row form": ({"instances": [ROW]}, 200),
    "two rows of one shape": ({"instances": [ROW, ROW | {"prompt": [1, 0]}]}, 200),
    "column form": ({"inputs": COLUMNS}, 200),
    "column form, one key too many": ({"inputs": COLUMNS | {"no": 1}}, 200),
    "another signature": ({"signature_name": "score", "instances": [[1, 63], [1, 64]]}, 200),
    "an unknown key in row form": ({"instances": [ROW | {"no": 1}]}, 400),
    "a missing key": ({"instances": [{k: ROW[k] for k in list(ROW)[1:]}]}, 400),
    "a missing column": ({"inputs": {k: COLUMNS[k] for k in list(ROW)[1:]}}, 400),
    "1.0 for an int": ({"instances": [ROW | {"top_k": 1.0}]}, 400),
    "true for an int": ({"instances": [ROW | {"top_k": True}]}, 400),
    "an int that is too large": ({"instances": [ROW | {"top_k": 2**31}]}, 400),
    "an int64 that is too large": ({"instances": [ROW | {"seed": 2**63}]}, 400),
    "an int that no float32 equals": ({"instances": [ROW | {"temperature": 2**24 + 1}]}, 400),
    "a float beyond float32": ({"instances": [ROW | {"temperature": 1e39}]}, 400),
    "rows of two lengths": ({"instances": [ROW, ROW | {"prompt": [1]}]}, 400),
    "a list with lists of two lengths": ({"inputs": COLUMNS | {"prompt": [[1], [1, 63]]}}, 400),
    "a list beside a number": ({"inputs": COLUMNS | {"prompt": [[1], 63]}}, 400),
    "a string for an int": ({"instances": [ROW | {"top_k": "1"}]}, 400),
    "null": ({"instances": [ROW | {"top_k": None}]}, 400),
    "rows without names": ({"instances": [[1, 63]]}, 400),
    "no row": ({"instances": []}, 400),
    "both forms": ({"instances": [ROW], "inputs": COLUMNS}, 400),
    "neither form": ({}, 400),
    "a list": ([], 400),
    "no JSON": (b'{"instances": [', 400),
    "nothing": (b"", 400),
    "NaN is read, and refused by the graph": ({"instances": [ROW | {"temperature": np.nan}]}, 400),
    "the same for Infinity": ({"instances": [ROW | {"temperature": np.inf}]}, 400),
    "an unknown signature": ({"signature_name": "no", "instances": [ROW]}, 400),
    "a signature that is no name": ({"signature_name": 1, "instances": [ROW]}, 400),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_predict(server, rule):
    body, code = RULES[rule]
    for path in (":predict", "/versions/1:predict"):
        found, answer = ask(f"{server.url}/v1/models/bach{path}", body)
        assert found == code, answer
        if code == 400:
            assert list(answer) == ["error"]
            assert isinstance(answer["error"], str)


def test_the_layout_of_the_answers(server):
    predict = f"{server.url}/v1/models/bach:predict"
    _, by_rows = ask(predict, {"instances": [ROW, ROW]})
    _, by_columns = ask(predict, {"inputs": {name: [v, v] for name, v in ROW.items()}})
    names = {"tokens", "length", "log_prob", "midi_bytes"}
    assert set(by_rows["predictions"][0]) == set(by_columns["outputs"]) == names
    assert [row["tokens"] for row in by_rows["predictions"]] == by_columns["outputs"]["tokens"]
    assert by_rows["predictions"][1]["midi_bytes"] == by_columns["outputs"]["midi_bytes"][1]
    assert base64.b64decode(by_rows["predictions"][0]["midi_bytes"]["b64"])[:4] == b"MThd"
    # One output has no name; the log-probability of the first id is 0, with a point.
    _, answer = ask(predict, {"signature_name": "score", "instances": [[1, 63]]})
    assert answer["predictions"][0][0] == 0
    _, answer = ask(predict, {"signature_name": "score", "inputs": [[1, 63]]})
    assert len(answer["outputs"][0]) == 2
    text = {"b64": base64.b64encode(b"ROO").decode()}
    predict = f"{server.url}/v1/models/shakespeare:predict"
    _, answer = ask(predict, {"instances": [ROW | {"prompt": "ROO"}, ROW | {"prompt": text}]})
    assert answer["predictions"][0] == answer["predictions"][1]
    assert answer["predictions"][0]["text"].startswith("ROO")


def test_status_metadata_and_paths(server):
    base = f"{server.url}/v1/models"
    code, answer = ask(f"{base}/bach")
    (version,) = answer["model_version_status"]
    assert (code, version["version"], version["state"]) == (200, "1", "AVAILABLE")
    assert version["status"] == {"error_code": "OK", "error_message": ""}
    for path in ("/bach/metadata", "/bach/versions/1/metadata"):
        code, answer = ask(base + path)
        spec = answer["model_spec"]
        assert (code, spec["name"], spec["version"]) == (200, "bach", "1")
        signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["prompt"]["dtype"] == "DT_INT32"
        shape = {"dim": [{"size": "-1", "name": ""}] * 2, "unknown_rank": False}
        assert signature["inputs"]["prompt"]["tensor_shape"] == shape
        assert signature["outputs"]["midi_bytes"]["dtype"] == "DT_STRING"
    for path in ("/no", "/bach/versions/9", "/no/metadata", "/bach/versions/9/metadata"):
        code, answer = ask(base + path)
        assert (code, list(answer)) == (404, ["error"])
    for path in ("/no:predict", "/bach/versions/9:predict"):
        code, answer = ask(base + path, {"instances": [ROW]})
        assert (code, list(answer)) == (404, ["error"])
    assert ask(f"{base}/bach:predict")[0] == 400  # GET where POST belongs
    code, answer = ask(f"{server.url}/v2/models/bach")
    assert (code, type(answer)) == (404, bytes)  # a page in HTML


# --- What a server answers when something is wrong ------------------------------------------------

# These were recorded by others:
HTML_404 = (
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>"
)
#   tensorflow/serving#1576: what it answers at a path that it does not have.
TIMED_OUT = b'{ "error": "Timed out waiting for notification" }'
#   tensorflow/serving#1006, and #1672 for its code, 504.
NOT_A_MATRIX = (
    rb'{ "error": "In[0] is not a matrix. Instead it has shape [3]\n\t '
    rb'[[{{node model/outputs/BiasAdd}}]]" }'
)
#   lyhue1991/eat_tensorflow2_in_30_days#46: a refusal, with the node's name.
MALFORMED = b'{ "error": "Malformed request: POST /v1/models/email_sendout" }'
#   tensorflow/serving#1095.
# These were not: they are written after TensorFlow Serving's and TensorFlow's sources
# (basic_manager.cc, get_model_status_impl.cc, shared_batch_scheduler.h, http_server.cc).
DROPPED = b'{ "error": "Servable not found for request: Specific(m, 1)" }'
UNKNOWN = b'{ "error": "Could not find any versions of model m" }'
QUEUE_FULL = b'{ "error": "The batch scheduling queue to which this task was submitted is full" }'
EXHAUSTED = b'{ "error": "OOM when allocating tensor with shape[4096,512]" }'
NO_XLA = rb'{ "error": "XLA compilation disabled\n\t [[{{node PartitionedCall}}]]" }'

WRITTEN = TEXT.encode("cd")[:-1].tolist()
ANSWER = {"tokens": WRITTEN, "length": 3, "log_prob": -0.5, "text": "cd"}
GOOD = json.dumps({"predictions": [ANSWER]}).encode()
ABOUT = {"tokenizer_json": TEXT.to_json(), "card_json": '{"max_num_tokens": 9}'}
DESCRIBED = json.dumps({"predictions": [ABOUT]}).encode()


def states(*states):
    entries = [
        {"version": str(v), "state": s, "status": {"error_code": "OK", "error_message": ""}}
        for v, s in enumerate(states, 1)
    ]
    return json.dumps({"model_version_status": entries}).encode()


AVAILABLE = states("AVAILABLE")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer("status")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer("describe" if "signature_name" in body else "generate")

    def answer(self, question):
        self.server.asked.append(f"{question} {self.path}")
        replies = self.server.replies[question]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if callable(reply):
            reply(self)
            return
        self.reply(*(reply if isinstance(reply, tuple) else (200, reply)))

    def reply(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def script(*generate, status=(AVAILABLE,), describe=(DESCRIBED,), port=0):
    """A server of the model "m" that gives these replies, the last one for ever.

    Yields its URL and the list of what it was asked. A reply is a body, (code, body), or a function
    of the handler.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.asked = []
    server.replies = {
        "generate": list(generate) or [GOOD],
        "status": list(status),
        "describe": list(describe),
    }
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hang_up(handler):
    handler.close_connection = True


def reset(handler):
    """Closes with RST instead of FIN, as a process does that is killed."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()


def cut(handler):
    """Announces the whole answer and sends a part of it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(GOOD)))
    handler.end_headers()
    handler.wfile.write(GOOD[:20])


def drip(handler):
    """Sends one byte every 50 ms: each is there in time, the whole is not."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def trickle(start, part):
    """A reply that never comes to its end, and of which each byte is there in time."""

    def reply(handler):
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.wfile.write(start)
            for _ in range(200):
                handler.wfile.write(part)
                time.sleep(0.05)

    return reply


def sleep(handler):
    time.sleep(1.5)
    hang_up(handler)


def number_of(asked, question):
    return sum(line.startswith(question) for line in asked)


def test_it_asks_for_the_version_once_and_then_the_version_by_its_number():
    with script(status=[states("END", "AVAILABLE", "LOADING")]) as (url, asked):
        client = Client(url, "m")
        assert client.generate("a", 2) == client.generate("a", 2) == "cd"
        assert asked == [
            "status /v1/models/m",
            "describe /v1/models/m/versions/2:predict",
            *["generate /v1/models/m/versions/2:predict"] * 2,
        ]


def test_a_model_behind_a_path_and_with_a_name_to_be_quoted():
    with script() as (url, asked):
        assert Client(f"{url}/tf/", "m 1").generate("a", 2) == "cd"
        assert asked[0] == "status /tf/v1/models/m%201"


SENTENCES = {  # what a server answers -> the exception and its sentence
    "refused": ((400, NOT_A_MATRIX), ValueError, r"^In\[0\] is not a matrix. .* has shape \[3\]$"),
    "malformed": ((400, MALFORMED), ValueError, "^Malformed request: POST"),
    "timed out": ((504, TIMED_OUT), TimeoutError, "504, Timed out waiting.*Raise `timeout`"),
    "a proxy's 504": ((504, b"<html>"), TimeoutError, "504, b'<html>'.*fewer tokens or prompts"),
    "no XLA": ((500, NO_XLA), RuntimeError, "failed: HTTP 500, XLA compilation disabled. See its"),
    "dropped for ever": ((404, DROPPED), ValueError, r"`name` must be .*Specific\(m, 1\)"),
    "no such path": ((404, HTML_404), ConnectionError, "must be the REST API.*404, b'<HTML>.*8501"),
    "a proxy's page": (b"<html>Please log in</html>", ConnectionError, "200, b'<html>Please.*prox"),
    "moved": ((302, b""), ConnectionError, "must be the REST API of TensorFlow Serving.*HTTP 302"),
    "not allowed": ((401, b"who are you?"), ConnectionError, "HTTP 401, b'who are you"),
    "half a JSON": (GOOD[:-5], ConnectionError, "must be the REST API of TensorFlow Serving"),
    "no UTF-8": (b'{"predictions": "\xff"}', ConnectionError, "Received: HTTP 200, b'{.*proxy"),
    "a list": (b"[]", ConnectionError, r"Received: HTTP 200, b'\[\]'"),
    "another answer": (b'{"outputs": {}}', ConnectionError, "an answer without `predictions`"),
    "no rows": (b'{"predictions": []}', ConnectionError, "without `tokens`, `length` and `log_pr"),
    "no tokens": (b'{"predictions": [{"length": 2}]}', ConnectionError, "answer without `tokens`"),
    "no names": (b'{"predictions": [1]}', ConnectionError, "answer without `tokens`, `length`"),
    "an impossible length": (GOOD.replace(b"3", b"9"), ConnectionError, "answer without `tokens`"),
    "two rows for one": (
        json.dumps({"predictions": [ANSWER] * 2}).encode(), ConnectionError, "for each prompt"
    ),
    "an object": (b'{"predictions": {}}', ConnectionError, "without `predictions`, a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", SENTENCES)
def test_every_answer_becomes_a_sentence(case):
    reply, error, says = SENTENCES[case]
    with script(reply) as (url, asked):
        with pytest.raises(error, match=says) as raised:
            Client(url, "m").generate("a", 2)
        assert "\n" not in str(raised.value)
        if case not in ("malformed", "refused"):
            assert url in str(raised.value)
        assert number_of(asked, "generate") == (2 if case == "dropped for ever" else 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"length": -1},
        {"length": 3.0},
        {"length": True},
        {"length": "3"},
        {"length": 2**40},
        {"tokens": [1.0, 5.0, 6.0]},
        {"tokens": [1, "5", 6]},
        {"tokens": [1, True, 6]},
        {"tokens": [1, TEXT.vocab_size, 6]},
        {"tokens": [1, -1, 6]},
        {"tokens": [1, 2**31, 6]},
        {"log_prob": None},
        {"log_prob": "NaN"},
        {"log_prob": np.nan},
        {"log_prob": 1e39},
        {"log_prob": True},
        {"log_prob": [-0.5]},
    ],
    ids=str,
)
def test_a_row_with_an_odd_value(wrong):
    reply = json.dumps({"predictions": [ANSWER | wrong]}).encode()
    says = "must be the REST API of TensorFlow Serving.*without `tokens`, `length` and `log_prob`"
    with script(reply) as (url, _), pytest.raises(ConnectionError, match=says):
        Client(url, "m").generate("a", 2)


def test_a_length_of_zero_in_one_of_two_rows():
    reply = json.dumps({"predictions": [ANSWER, ANSWER | {"length": 0}]}).encode()
    with script(reply) as (url, _), pytest.raises(ConnectionError, match="without `tokens`"):
        Client(url, "m").generate(["a", "b"], 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"midi_bytes": "TVRoZAAA"},
        {"midi_bytes": {"b64": "TVRo ZAAA"}},
        {"midi_bytes": {"b64": "TVRoZAA"}},
        {"midi_bytes": {"b64": "Y2QAAAAA"}},
        {"midi_bytes": {"b64": ["TVRoZAAA"]}},
        {"midi_bytes": {"b64": "é"}},
    ],
    ids=str,
)
def test_a_midi_file_that_is_none(wrong):
    about = {"tokenizer_json": MUSIC.to_json(), "card_json": "{}"}
    describe = json.dumps({"predictions": [about]}).encode()
    answer = {"tokens": [1, 5], "length": 2, "log_prob": -0.5, "midi_bytes": {"b64": "TVRoZAAA"}}
    good, bad = (json.dumps({"predictions": [a]}).encode() for a in (answer, answer | wrong))
    with script(good, bad, describe=[describe]) as (url, _):
        client = Client(url, "m")
        assert client.generate_midi() == b"MThd\0\0"
        with pytest.raises(ConnectionError, match="must be the REST API.*without `midi_bytes`"):
            client.generate_midi()


@pytest.mark.parametrize(
    "reply, error, says",
    [
        *[
            (
                json.dumps({"predictions": [ABOUT | wrong]}).encode(),
                ConnectionError,
                "must be the REST API.*without `tokenizer_json` and `card_json`",
            )
            for wrong in (
                {"tokenizer_json": ["{}"]},
                {"tokenizer_json": None},
                {"card_json": "[]"},
                {"card_json": "[" * 100_000},
            )
        ],
        (
            (400, b'{"error": "no signature"}'),
            ValueError,
            "cannot describe itself: no signature. Ex",
        ),
        (b'{"predictions": ["{}"]}', ConnectionError, "without `tokenizer_json` and `card_json`"),
        (b'{"predictions": []}', ConnectionError, "without `tokenizer_json` and `card_json`"),
        (
            json.dumps({"predictions": [ABOUT | {"tokenizer_json": "{}"}]}).encode(),
            ValueError,
            "'m', version 1, on http.* does not describe a tokenizer",
        ),
    ],
)
def test_a_model_that_does_not_describe_itself(reply, error, says):
    with script(describe=[reply]) as (url, _), pytest.raises(error, match=says):
        Client(url, "m").generate()


@pytest.mark.parametrize(
    "reply, error, says",
    [
        (
            (404, UNKNOWN),
            ValueError,
            "`name` must be .*'m' .*any versions of model m.*saved_model.pb",
        ),
        ((404, HTML_404), ConnectionError, "must be the REST API"),
        (b"{}", ConnectionError, "an answer without `model_version_status`"),
        (states(["a"]), ConnectionError, "an answer without `model_version_status`"),
        (states(None), ConnectionError, "an answer without `model_version_status`"),
        (
            AVAILABLE.replace(b'"1"', b"1.5"),
            ConnectionError,
            "an answer without `model_version_status`",
        ),
        (
            states("END"),
            RuntimeError,
            "knows 'm', but has no version to serve. Received: {1: 'END'}",
        ),
    ],
)
def test_a_server_without_the_model(reply, error, says):
    with script(status=[reply]) as (url, _), pytest.raises(error, match=says):
        Client(url, "m").generate()


@pytest.mark.parametrize(
    "said, sentence",
    [
        (
            "assertion failed: [`top_p` must be above 0. Received:] [0 1 2...]\n\t "
            "[[{{function_node __inference_served_9}}{{node Assert_13/Assert}}]]",
            "`top_p` must be above 0. Received: [0 1 2...]",
        ),
        (
            "{{function_node __inference_8}} {{function_node x}} assertion failed: [`a` is b.]\n\t "
            "[[{{node Assert}}]]\n\t [[StatefulPartitionedCall]]",
            "`a` is b.",
        ),
        (
            "2 root error(s) found.\n  (0) INVALID_ARGUMENT: assertion failed: [`a` is b:] [!]\n\t "
            "[[{{node Assert}}]]\n\t [[y/_5]]\n  (1) INVALID_ARGUMENT: assertion failed: [`c`]\n\t "
            "[[{{node z}}]]\n0 successful operations.\n0 derived errors ignored.",
            "`a` is b: [!]",
        ),
        ("It does not know:] []]", "It does not know:] []]"),
    ],
)
def test_the_noise_around_a_sentence_is_removed(said, sentence):
    assert clean(said) == sentence


# --- A busy server, and time ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "busy",
    [(503, QUEUE_FULL), (429, EXHAUSTED), (503, b""), (502, b"<html>")],
    ids=["503", "429", "503 without words", "502"],
)
def test_a_busy_server_is_asked_again(busy):
    with script(busy, busy, GOOD) as (url, asked):
        start = time.monotonic()
        assert Client(url, "m").generate("a", 2) == "cd"
        assert number_of(asked, "generate") == 3
        assert time.monotonic() - start > 0.1 + 0.2  # the waits grow
    with script(busy) as (url, asked):
        with pytest.raises(
            ConnectionError, match="after asking 2 times: .*Try later, or raise `ret"
        ):
            Client(url, "m", retries=1).generate("a", 2)
        assert number_of(asked, "generate") == 2


def cut_in_a_chunk(handler):
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\n{")


@pytest.mark.parametrize(
    "lost", [hang_up, reset, cut, cut_in_a_chunk], ids=lambda reply: reply.__name__
)
def test_a_request_that_ends_the_connection_is_sent_once_more(lost):
    """It may be what ends the server; to look what is served ends nothing."""
    with script(lost, GOOD, status=[lost, lost, lost, AVAILABLE]) as (url, asked):
        assert Client(url, "m").generate("a", 2) == "cd"
        assert (number_of(asked, "status"), number_of(asked, "generate")) == (4, 2)
    with script((503, QUEUE_FULL), lost, (503, QUEUE_FULL), lost, GOOD) as (url, asked):
        with pytest.raises(ConnectionError, match=f"{url} must not end .*twice for .*See its log"):
            Client(url, "m").generate("a", 2)
        assert number_of(asked, "generate") == 4


def test_it_asks_a_busy_server_until_its_timeout(monkeypatch):
    """More often than any number that could stand there: the waits are made short."""
    monkeypatch.setattr(rest, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(rest, "LONGEST_WAIT", 0.001)
    with script(*[(503, QUEUE_FULL)] * 60, GOOD) as (url, asked):
        assert Client(url, "m").generate("a", 2) == "cd"
        assert number_of(asked, "generate") == 61


def test_a_model_that_is_being_loaded_is_waited_for():
    with script(status=[states("START"), states("LOADING"), states("AVAILABLE")]) as (url, asked):
        assert Client(url, "m").generate("a", 2) == "cd"
        assert number_of(asked, "status") == 3


def test_a_server_that_is_started_again():
    """It hangs up, is away for a while, and comes back at the same place."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url, done = f"http://127.0.0.1:{port}", threading.Event()

        def restart():
            listener.accept()[0].close()
            listener.close()
            time.sleep(0.5)
            with script(port=port):
                done.wait(20)

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            assert Client(url, "m").generate("a", 2) == "cd"
        finally:
            done.set()
            thread.join()


def test_a_call_that_begins_while_a_known_server_is_away():
    with script() as (url, _):
        client = Client(url, "m")
        assert client.generate("a", 2) == "cd"
    back, done = threading.Event(), threading.Event()

    def restart():
        time.sleep(0.5)
        with script(port=int(url.rpartition(":")[2])):
            back.set()
            done.wait(20)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert client.generate("a", 2) == "cd"
        assert back.is_set()
    finally:
        done.set()
        thread.join()


def test_of_two_first_calls_one_looks_for_the_version():
    """Else, while a version is swapped, they find two, and the tokenizer of the other one."""
    both = threading.Barrier(2)

    def describe(handler):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)
        Handler.reply(handler, 200, DESCRIBED)

    with script(describe=[describe]) as (url, asked), ThreadPoolExecutor(2) as pool:
        client = Client(url, "m")
        assert list(pool.map(lambda _: client.generate("a", 2), range(2))) == ["cd"] * 2
        assert number_of(asked, "status") == number_of(asked, "describe") == 1


def test_a_version_is_looked_for_again_once_a_call():
    with script((404, DROPPED), GOOD, (404, DROPPED), GOOD) as (url, asked):
        client = Client(url, "m")
        assert client.generate("a", 2) == client.generate("a", 2) == "cd"
        assert number_of(asked, "status") == number_of(asked, "describe") == 3
    with script(describe=[(404, DROPPED), DESCRIBED]) as (url, asked):
        assert Client(url, "m").tokenizer == TEXT
        assert number_of(asked, "status") == 2


@pytest.mark.parametrize(
    "reply",
    [(503, QUEUE_FULL), drip, sleep],
    ids=["busy", "drip", "sleep"],
)
def test_the_deadline_is_for_the_whole_call(reply):
    with script(reply) as (url, _):
        start = time.monotonic()
        with pytest.raises(TimeoutError, match="`timeout`, 0.8 s.*Raise `timeout`.*fewer tokens"):
            Client(url, "m", timeout=0.8, retries=100).generate("a", 2)
        assert 0.3 < time.monotonic() - start < 1.2


TRICKLES = {
    "the status line": (b"HTTP/1.1 200 ", b"O"),
    "a header": (b"HTTP/1.1 200 OK\r\nServer: ", b"x"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the size of a chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
}


@pytest.mark.parametrize("case", TRICKLES)
def test_what_trickles_does_not_hold_a_call(case):
    errors = []

    def call(url):
        with pytest.raises(TimeoutError, match="`timeout`, 0.5 s.*Raise `timeout`") as raised:
            Client(url, "m", timeout=0.5).generate("a", 2)
        errors.append(raised)

    with script(trickle(*TRICKLES[case])) as (url, _):
        thread = threading.Thread(target=call, args=[url], daemon=True)
        thread.start()
        thread.join(5)  # it trickles for 10 s
        assert not thread.is_alive()
    assert len(errors) == 1


@pytest.mark.parametrize("announced", [True, False])
def test_a_reply_without_end(announced, monkeypatch):
    monkeypatch.setattr(rest, "MAX_REPLY", len(DESCRIBED))

    def large(handler):
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.send_response(200)
            if announced:
                handler.send_header("Content-Length", str(2**40))
            handler.end_headers()
            while True:
                handler.wfile.write(b" " * 2**16)

    with script(large) as (url, asked):
        says = f"{url} must answer with at most {len(DESCRIBED)} bytes. Received: .*fewer tokens"
        with pytest.raises(ConnectionError, match=says):
            Client(url, "m", timeout=10).generate("a", 2)
        assert number_of(asked, "generate") == 1


def test_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    start = time.monotonic()
    says = f"No server answers at http://127.0.0.1:{port}: .*refused. Start one .*check host and"
    with pytest.raises(ConnectionError, match=says):
        Client(f"http://127.0.0.1:{port}", "m").generate()
    assert time.monotonic() - start < 1  # it is not asked again
    with pytest.raises(ConnectionError, match="No server answers at http://no-such-host.invalid"):
        Client("http://no-such-host.invalid", "m").generate()


def test_a_port_that_speaks_something_else():
    """As the gRPC port does, which is beside the REST port: it answers with frames of HTTP/2."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def frames():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\0\0\x12\4\0\0\0\0\0\0\3\x7f\xff\xff\xff\0\4\0\x10\0\0")

        thread = threading.Thread(target=frames)
        thread.start()
        with pytest.raises(ConnectionError, match="BadStatusLine.*8501 is REST, 8500 is gRPC"):
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}", "m").generate()
        thread.join()


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8501",
        "localhost:8501",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:8501/v1/models/bach:predict",
        "http://host?x=1",
        "http://me:secret@host",
        "http://:secret@host",
        "http://@host",
        "http://host?",
        "http://host#",
        "http://host/a/../b",
        "http://a host",
        "http://a..b",
        None,
        b"http://host",
    ],
)
def test_a_url_that_cannot_be_one(url):
    with pytest.raises(ValueError, match="`url` must be the address.*Example: 'http://127.0.0.1:"):
        Client(url, "m")


def test_a_refused_url_does_not_show_its_password():
    with pytest.raises(ValueError, match=r"no user.*Received: url='\.\.\.@host:1'\.") as raised:
        Client("http://me:12@34@host:1", "m")
    assert "34" not in str(raised.value)


def test_other_arguments():
    for name in ("", "a/b", "a:b", None, 1):
        with pytest.raises(ValueError, match="`name` must be the model's name.*Received: name="):
            Client("http://host", name)
    for timeout in (0, -1, np.nan, np.inf, None, True, "1"):
        with pytest.raises(ValueError, match="`timeout` must be > 0 seconds. Received: timeout="):
            Client("http://host", "m", timeout=timeout)
    with pytest.raises(ValueError, match="`retries` must be a whole number >= 0. Received: retr"):
        Client("http://host", "m", retries=-1)
    names = list(inspect.signature(km.OneStep.generate).parameters)
    for method in (Client.generate, Client.generate_tokens, Client.generate_midi):
        assert list(inspect.signature(method).parameters) == names
