"""Flags that name a server, read before anything begins."""

import click

from stepflow_grpc.address import AddressError, read_address


def address_text(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The text of an address, which is one."""
    if value is not None:
        try:
            read_address(value)
        except AddressError as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value
