"""Ports that are found lie where the system gives none away."""

import socket

from redpencil import ports


def test_they_are_free_different_and_below_those_that_the_system_gives_away() -> None:
    found = ports.free(20)
    assert len(set(found)) == 20
    assert all(ports.BELOW_EPHEMERAL[0] <= port < ports.BELOW_EPHEMERAL[1] for port in found)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    (port,) = ports.free(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not ports._is_free(port)
