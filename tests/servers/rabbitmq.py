"""RabbitMQ for tests: a node of its own on 127.0.0.1, with its own Erlang port mapper, cookie and files."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from amqp import Connection

from tests.servers import Server, folder, free_port, given, require

VARIABLE = "STILLHOUSE_TEST_RABBITMQ_URL"
"""An amqp:// URL of a server that is there already; tests use queues of their own there."""
_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
_ERLANG = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""One scheduler that sleeps when it has nothing to do: the machine has other work."""


class PortMapper(Server):
    """Erlang's epmd, which a node asks for; started here it ends with us, and listens on 127.0.0.1 alone."""

    def __init__(self) -> None:
        super().__init__("epmd", folder("epmd"))

    def command(self) -> list[str]:
        program = require("epmd", package="rabbitmq-server", variable=VARIABLE, folders=("/usr/lib/erlang/erts-*/bin",))
        return [str(program), "-address", "127.0.0.1", "-port", str(self.port)]

    def ready(self) -> bool:
        return subprocess.run([*self.command(), "-names"], capture_output=True, check=False).returncode == 0


class RabbitMQ(Server):
    """A node without plugins, of which nothing is left when it ends."""

    def __init__(self) -> None:
        require("rabbitmq-server", package="rabbitmq-server", variable=VARIABLE, folders=_FOLDERS)
        super().__init__("rabbitmq", folder("rabbitmq"))
        self.mapper = PortMapper()
        self._distribution = free_port()

    def command(self) -> list[str]:
        """Not what the package puts on the PATH: that changes to a user of its own, and to its folders."""
        wrapped = require("rabbitmq-server", package="rabbitmq-server", variable=VARIABLE, folders=_FOLDERS)
        plain = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
        return [str(plain if plain.exists() else wrapped)]

    def environment(self) -> dict[str, str]:
        (self.data / "plugins").write_text("[].\n")
        (self.data / "rabbitmq.conf").write_text("vm_memory_high_watermark.absolute = 512MB\n")
        data = str(self.data)
        return {
            "HOME": data,  # the Erlang cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.mapper.port),
            "RABBITMQ_NODENAME": f"stillhouse-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_ERLANG} -kernel inet_dist_use_interface {{127,0,0,1}}",
            "RABBITMQ_CONF_ENV_FILE": f"{data}/none",
            "RABBITMQ_CONFIG_FILE": f"{data}/rabbitmq",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{data}/plugins",
            "RABBITMQ_LOGS": "-",
            **{f"RABBITMQ_{name}": data for name in ("MNESIA_BASE", "LOG_BASE", "FEATURE_FLAGS_DIR")},
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{data}/feature_flags",
            "RABBITMQ_PID_FILE": f"{data}/pid",
        }

    def start(self) -> None:
        if self.mapper.process is None or self.mapper.process.poll() is not None:
            self.mapper.start()
        super().start()

    def ready(self) -> bool:
        with Connection(host=f"127.0.0.1:{self.port}", connect_timeout=2):
            return True

    def url(self, port: int | None = None) -> str:
        """Of the only virtual host; through a proxy on ``port``."""
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}//"


@functools.cache
def shared() -> RabbitMQ:
    """The session's."""
    server = RabbitMQ()
    server.start()
    return server


def fresh() -> str:
    """The URL of the session's server, or of the one that the environment names; its queues are not only ours."""
    return given(VARIABLE) or shared().url()
