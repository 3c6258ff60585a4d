"""What leaves this machine: the cache on S3 and over SSH, experiments between clones, the model under its versions.

Both servers listen on 127.0.0.1 only and live in threads of the test, so nothing of them is left behind.
"""

import asyncio
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import boto3
import numpy as np
import pytest
import yaml
from moto.server import ThreadedMotoServer
from project import PIPELINE, ROOT, commit, contents, make_project, ran_stages, run

OUTS = ("data/images", "data/labels")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3():
    """A server of S3 with an empty bucket; yields the settings of a remote there."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)  # a free port
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        with pytest.MonkeyPatch.context() as patch:
            for name, value in KEYS.items():
                patch.setenv(name, value)
            patch.setenv("NO_PROXY", "127.0.0.1")
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket="team")
            yield {"url": "s3://team/cache", "endpointurl": url}
    finally:
        server.stop()


@contextmanager
def ssh(folder):
    """A server of SSH that serves a folder; yields the settings of a remote there."""

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, username, password):
            return (username, password) == ("ana", "secret")

    async def listen():
        return await asyncssh.create_server(
            Server,
            "127.0.0.1",
            port=0,  # a free one; by default it would be 22
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(folder).encode()),
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield {"url": f"ssh://ana@127.0.0.1:{server.get_port()}/cache", "password": "secret"}
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def add_remote(project, url, **settings):
    """Make it the project's default remote, its address committed and its password not."""
    run("dvc", "remote", "add", "--default", "team", url, cwd=project)
    for name, value in settings.items():
        where = ["--local"] if name == "password" else []
        run("dvc", "remote", "modify", *where, "team", name, value, cwd=project)
    commit(project, "Share the cache")


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """The project cut down to its first stage, which has run; to be copied, not changed."""
    project = make_project(tmp_path_factory.mktemp("remote") / "project")
    first = {"download": PIPELINE["download"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": first}, sort_keys=False))
    shutil.rmtree(project / "baselines")
    run("dvc", "repro", cwd=project)
    commit(project, "download")
    return project


@pytest.fixture
def project(downloaded, tmp_path):
    return shutil.copytree(downloaded, tmp_path / "project")


def push_wipe_pull(project):
    """Hold the remote to it: what was pushed comes back to the byte, and then no stage has anything to do."""
    before = contents(project, *OUTS)
    assert before
    run("dvc", "push", cwd=project)
    shutil.rmtree(project / ".dvc/cache")
    for out in OUTS:
        shutil.rmtree(project / out)
    run("dvc", "pull", cwd=project)
    assert contents(project, *OUTS) == before
    assert not ran_stages(run("dvc", "repro", cwd=project).stdout)


def test_push_wipe_pull_through_ssh(project, tmp_path):
    (tmp_path / "served").mkdir()
    with ssh(tmp_path / "served") as settings:
        add_remote(project, **settings)
        push_wipe_pull(project)
    assert (tmp_path / "served/cache/files/md5").is_dir()
    assert "secret" not in (project / ".dvc/config").read_text()


def test_results_and_experiments_travel_through_s3_and_git(project, tmp_path):
    origin, colleague = tmp_path / "origin.git", tmp_path / "colleague"
    with s3() as settings:
        add_remote(project, **settings)
        push_wipe_pull(project)

        run("git", "clone", "--quiet", "--bare", str(project), str(origin), cwd=tmp_path)
        run("git", "remote", "add", "origin", str(origin), cwd=project)
        run("dvc", "exp", "run", "--name", "few", "-S", "data.limit=200", cwd=project)
        expected = contents(project, *OUTS)
        run("dvc", "exp", "push", "origin", "few", cwd=project)

        run("git", "clone", "--quiet", str(origin), str(colleague), cwd=tmp_path)
        run("dvc", "exp", "pull", "origin", "few", cwd=colleague)
        run("dvc", "exp", "apply", "few", cwd=colleague)
        assert contents(colleague, *OUTS) == expected
        assert len(np.load(colleague / "data/images/train.npy")) == 200
        assert not ran_stages(run("dvc", "repro", cwd=colleague).stdout)


def init(project, config=""):
    """Make a folder a repository of git and DVC."""
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").write_text(config)
    shutil.copy(ROOT / ".dvc/.gitignore", project / ".dvc/.gitignore")
    run("git", "init", "--quiet", "--initial-branch=main", cwd=project)
    run("git", "config", "user.name", "test", cwd=project)
    run("git", "config", "user.email", "test@example.org", cwd=project)


def test_the_model_is_fetched_by_name_and_version(tmp_path):
    """The `artifacts` of dvc.yaml, above a stage that writes other bytes for each seed to the path they name."""
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    path = artifacts["scan"]["path"]
    project, origin, elsewhere = (tmp_path / name for name in ("project", "origin.git", "elsewhere"))
    init(project, f"[core]\n    remote = team\n['remote \"team\"']\n    url = {tmp_path / 'cache'}\n")
    out = str(Path(path).parent)
    script = f"import shutil, pathlib; pathlib.Path('{out}').mkdir(parents=True); shutil.copy('params.yaml', '{path}')"
    stage = {"cmd": f'python -c "{script}"', "params": ["seed"], "outs": [out]}
    (project / out).parent.mkdir(parents=True)
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"selflabel": stage}, "artifacts": artifacts}))
    run("git", "clone", "--quiet", "--bare", str(project), str(origin), cwd=tmp_path)
    run("git", "remote", "add", "origin", str(origin), cwd=project)
    for seed, version in enumerate(["v1.0.0", "v2.0.0"]):
        (project / "params.yaml").write_text(f"seed: {seed}\n")
        run("dvc", "repro", cwd=project)
        commit(project, version)
        run("gto", "register", "scan", "--version", version, cwd=project)
    run("dvc", "push", "--all-tags", cwd=project)
    run("git", "push", "--quiet", "origin", "main", "--tags", cwd=project)
    shutil.rmtree(project)  # from here on everything comes from git and the remote

    init(elsewhere)
    run("dvc", "artifacts", "get", str(origin), "scan", "--rev", "v1.0.0", "-o", "first.pt", cwd=elsewhere)
    assert (elsewhere / "first.pt").read_text() == "seed: 0\n"
    run("dvc", "artifacts", "get", str(origin), "scan", cwd=elsewhere)  # the latest, under its own name
    assert (elsewhere / "model.pt").read_text() == "seed: 1\n"
    run("dvc", "get", str(origin), path, "--rev", "scan@v1.0.0", "-o", "again.pt", cwd=elsewhere)
    assert (elsewhere / "again.pt").read_text() == "seed: 0\n"

    run("dvc", "import", str(origin), path, "--rev", "scan@v1.0.0", "-o", "scan.pt", cwd=elsewhere)
    assert (elsewhere / "scan.pt").read_text() == "seed: 0\n"
    run("dvc", "update", "--rev", "scan@v2.0.0", "scan.pt.dvc", cwd=elsewhere)
    assert (elsewhere / "scan.pt").read_text() == "seed: 1\n"
