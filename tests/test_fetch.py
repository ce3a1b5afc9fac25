"""Downloads against a server on this machine that misbehaves in every way that servers do."""

import hashlib
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from reproduce.datasets.fetch import Store, WrongHash, digest_of, fetch_all, fetched, needed
from reproduce.datasets.manifest import Manual, Remote, manifest
from reproduce.errors import UserError

# pooch leaves the response of a refused request to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BODY = bytes(range(256)) * 400
SHA = "sha256:" + hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server():
    """Answers each path with its list of replies in turn, the last one for ever: bytes, a status, or "cut"."""
    replies, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            queue = replies.get(self.path, [404])
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(reply, int):
                self.send_error(reply)
                return
            body = BODY if reply == "cut" else reply
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if reply == "cut" else body)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    http.replies, http.asked, http.address = replies, asked, f"http://127.0.0.1:{http.server_port}"
    yield http
    http.shutdown()
    http.server_close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def store(tmp_path, waits):
    return Store(tmp_path / "data", mirrors=(), wait=waits.append)


def remote(server, name="set/file.bin", digest=SHA, paths=("/file.bin",)):
    return Remote(name, tuple(server.address + path for path in paths), digest, "none")


def leftovers(store):
    return sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if p.is_file())


def test_a_file_is_fetched_once_and_verified(server, store):
    server.replies["/file.bin"] = [BODY]
    path = store.fetch(remote(server))
    assert path.read_bytes() == BODY and store.path(remote(server)) == path
    store.fetch(remote(server))
    assert server.asked == ["/file.bin"] and leftovers(store) == ["set/file.bin"]


def test_a_cut_connection_is_tried_again_with_back_off(server, store, waits):
    server.replies["/file.bin"] = ["cut", 503, BODY]
    assert store.fetch(remote(server)).read_bytes() == BODY
    assert waits == [1.0, 2.0]


def test_after_the_last_try_nothing_is_left(server, store):
    server.replies["/file.bin"] = ["cut"]
    with pytest.raises(UserError, match=r"set/file.bin could not be fetched. http://127.0.0.1:\d+/file.bin: "):
        store.fetch(remote(server))
    assert len(server.asked) == 3 and leftovers(store) == []


def test_a_missing_file_is_not_asked_for_again_and_the_next_address_is_tried(server, store, waits):
    server.replies["/second.bin"] = [BODY]
    assert store.fetch(remote(server, paths=("/gone.bin", "/second.bin"))).read_bytes() == BODY
    assert server.asked == ["/gone.bin", "/second.bin"] and waits == []


def test_wrong_bytes_stop_with_both_hashes_and_right_ones_come_later(server, store):
    server.replies["/file.bin"] = [b"other", BODY]
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(WrongHash, match=rf"sha256 is {found}, expected {SHA[7:]}"):
        store.fetch(remote(server))
    assert leftovers(store) == []
    assert store.fetch(remote(server)).read_bytes() == BODY


def test_a_damaged_file_is_named_and_kept(server, store):
    server.replies["/file.bin"] = [BODY]
    path = store.fetch(remote(server))
    path.write_bytes(b"damaged")
    for read in (store.path, store.fetch):
        with pytest.raises(WrongHash, match=r"expected .* Remove .*file.bin if it is damaged"):
            read(remote(server))
    assert path.read_bytes() == b"damaged"


def test_the_first_download_without_a_published_hash_is_recorded(server, store):
    server.replies["/file.bin"] = [BODY, b"changed"]
    file = remote(server, digest="lock")
    path = store.fetch(file)
    assert json.loads((store.folder / "lock.json").read_text()) == {"set/file.bin": SHA}
    path.unlink()
    with pytest.raises(WrongHash, match="expected " + SHA[7:]):
        store.fetch(file)


def test_hashes_of_publishers(tmp_path):
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert digest_of(path, "git-blob") == "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object`
    assert digest_of(path, "md5") == "b1946ac92492d2347c6235b4d2611184"


def test_mirrors_come_first_and_are_checked(server, tmp_path, waits):
    folder = tmp_path / "mirror"
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "file.bin").write_bytes(b"wrong")
    server.replies["/m/set/file.bin"] = [BODY]
    store = Store(tmp_path / "data", mirrors=(str(folder), server.address + "/m"), wait=waits.append)
    assert store.fetch(remote(server)).read_bytes() == BODY
    assert server.asked == ["/m/set/file.bin"]


def test_a_mirror_may_hold_it_flat_or_in_a_tar_and_offline_asks_nobody(server, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "flat.bin").write_bytes(BODY)
    (tmp_path / "inner.bin").write_bytes(BODY)
    with tarfile.open(folder / "all.tar", "w") as tar:
        tar.add(tmp_path / "inner.bin", "../../outside/inner.bin")  # its path inside is not used
    store = Store(tmp_path / "data", mirrors=(str(folder),), offline=True)
    assert store.fetch(Remote("set/flat.bin", (), SHA, "none")).read_bytes() == BODY
    assert store.fetch(Remote("set/inner.bin", (), SHA, "none", archives=("all.tar",))).read_bytes() == BODY
    with pytest.raises(UserError, match="absent.bin could not be fetched. No address is known"):
        store.fetch(remote(server, name="set/absent.bin"))
    assert server.asked == [] and leftovers(store) == ["set/flat.bin", "set/inner.bin"]
    assert not (tmp_path / "outside").exists()


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    for name in ("../evil", "/etc/evil", "a/../../evil"):
        path = tmp_path / f"{abs(hash(name))}.toml"
        path.write_text(f'[[file]]\nname = "{name}"\nurls = []\nhash = "lock"\nlicence = ""\n')
        with pytest.raises(UserError, match="would leave the data folder"):
            manifest(path)


def test_a_manifest_that_is_not_there_says_where_to_run(tmp_path):
    with pytest.raises(
        UserError, match=r"cannot read the list of files .*none.toml: No such file.*run from a checkout"
    ):
        manifest(tmp_path / "none.toml")


def test_the_manifest_is_whole():
    files, manual = manifest()
    assert sum(name.startswith("imagenet-sample/") for name in files) == 1_000
    for file in files.values():
        kind, _, digest = file.hash.partition(":")
        whole = {"sha256": 64, "git-blob": 40, "md5": 32}
        given = 8 if file.name.startswith("torchvision/") else whole.get(kind)
        assert kind == "lock" or len(digest) == given, file
        assert file.licence and file.scales and all(url.startswith("https://") for url in file.urls)
    assert isinstance(manual["ILSVRC2012"], Manual)


def test_what_is_not_there_names_the_command(tmp_path):
    with pytest.raises(UserError, match="y_sparsity.npy is not there; fetch it with `make data SCALE=subset`"):
        fetched("nhanes1/y_sparsity.npy", Store(tmp_path))
    with pytest.raises(UserError, match="'nothing' is not in"):
        fetched("nothing")


def test_a_host_that_does_not_answer_is_asked_once(store, monkeypatch):
    asked = []

    class Dead:
        def __init__(self, **options):
            pass

        def __call__(self, url, part, _):
            asked.append(url)
            raise requests.ConnectionError("no route")

    monkeypatch.setattr("reproduce.datasets.fetch.pooch.HTTPDownloader", Dead)
    for name in ("a", "b"):
        with pytest.raises(UserError, match="nowhere.invalid cannot be reached"):
            store.fetch(Remote(name, ("https://nowhere.invalid/" + name,), SHA, "none"))
    assert asked == ["https://nowhere.invalid/a"]


def test_the_first_digits_of_a_hash_are_enough_where_the_publisher_gives_no_more(tmp_path):
    (tmp_path / "weights.pth").write_bytes(BODY)
    store = Store(tmp_path, mirrors=())
    assert store.path(Remote("weights.pth", (), SHA[: len("sha256:") + 8], "")).is_file()
    for hash_ in ("sha256:00000000", SHA[: len("sha256:") + 4], "sha256:"):
        with pytest.raises(WrongHash):
            store.path(Remote("weights.pth", (), hash_, ""))


def test_a_stand_in_of_a_mirror_spares_the_file_and_is_not_missed_where_there_is_none(server, tmp_path):
    server.replies["/whole.bin"] = [BODY]
    copy = Remote("copy.tar", (), SHA, "", scales=("subset",), instead_of="whole.bin")
    whole = Remote("whole.bin", (f"{server.address}/whole.bin",), SHA, "", scales=("subset",))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "copy.tar").write_bytes(BODY)
    with_mirror = Store(tmp_path / "a", mirrors=(str(tmp_path / "mirror"),))
    assert fetch_all("subset", [copy, whole], with_mirror) == ([copy], {}) and not server.asked
    assert needed("paper", [copy, whole], with_mirror) == []
    told = []
    assert fetch_all("subset", [copy, whole], Store(tmp_path / "b", mirrors=()), told.append) == ([whole], {})
    assert told == ["whole.bin"]
    gone = Remote("gone.bin", (), SHA, "", scales=("subset",))
    wanted, failed = fetch_all("subset", [gone, whole], Store(tmp_path / "b", mirrors=()))
    assert wanted == [gone, whole] and list(failed) == ["gone.bin"]
