"""`keeper run`: a node in the foreground."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvicorn

from keeper.api.app import create_app
from keeper.chain.follower import DeepReorg
from keeper.cli.output import Failure
from keeper.node import preflight
from keeper.node.config import ConfigError, NodeConfig
from keeper.node.node import Node
from keeper.node.preflight import Findings
from keeper.state.deployment import Deployment, DeploymentError
from keeper.store.journal import JournalLocked, JournalUnreadable

log = structlog.get_logger()


def run(
    config: Annotated[Path, typer.Option(help="Configuration file, TOML; examples/node.toml explains every key.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only read configuration, deployment and keys, and say all that is wrong.")
    ] = False,
    online: Annotated[
        bool, typer.Option("--online", help="With --check: also ask the providers who they are, and the peers.")
    ] = False,
) -> None:
    """Run a node until Ctrl-C.

    Example: keeper run --config examples/node.toml
    """
    if online and not check:
        raise Failure("--online goes with --check: a node that runs asks by itself")
    try:
        settings = NodeConfig.load(config)
        deployment = Deployment.load(settings.deployment)
        found = preflight.inspect(settings, deployment)
        if online:
            asked = asyncio.run(preflight.ask(settings, deployment))
            found = Findings(found.faults + asked.faults, found.warnings + asked.warnings)
        if found.faults:
            raise ConfigError.of(str(config), found.faults)
        if check:
            for warning in found.warnings:
                typer.echo(f"{config}: warning: {warning}")
            roles, chains = ", ".join(sorted(settings.roles)), ", ".join(map(str, deployment.chains))
            typer.echo(f"{config}: {settings.name}, roles {roles}, chains {chains}")
            return
        _configure_logging()
        for warning in found.warnings:
            log.warning("config.warning", reason=warning)
        asyncio.run(_serve(settings, deployment))
    except (ConfigError, DeploymentError, JournalLocked, JournalUnreadable, ValueError) as error:
        raise Failure(str(error)) from error
    except BaseExceptionGroup as group:
        deep = group.subgroup(DeepReorg)
        if deep is None:
            raise
        raise Failure(f"stopped: {_first(deep)}") from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


async def _serve(settings: NodeConfig, deployment: Deployment) -> None:
    """Serve HTTP and run the node until a signal, or until either fails."""
    async with Node(settings, deployment) as node:
        app = create_app(node)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=settings.http.host,
                port=settings.http.port,
                log_level="warning",
                access_log=False,
                lifespan="off",
            )
        )
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        # The inner serve: the outer one would take the signals for itself, and Ctrl-C would not reach the node.
        serving = asyncio.create_task(server._serve())
        running = asyncio.create_task(node.run())
        stopping = asyncio.create_task(stop.wait())
        tasks = {serving, running, stopping}
        if node.attestor is None:  # an attestor has an epoch's work to do: it samples when asked
            tasks.add(asyncio.create_task(app.state.netting.follow()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        for task in tasks - {serving}:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome


def _configure_logging() -> None:
    """One JSON object a line on standard output: what happened, where, with which figures."""
    logging.basicConfig(level=logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
