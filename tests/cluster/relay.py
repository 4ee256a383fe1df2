"""Carries connections between a Unix socket and a port of 127.0.0.1: files are seen in every namespace."""

import asyncio
import contextlib
import sys


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(way: str, socket: str, port: str) -> None:
    """`to-port`: from the socket to the port; `to-socket`: the other way."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if way == "to-socket":
            far_reader, far_writer = await asyncio.open_unix_connection(socket)
        else:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(port))
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    if way == "to-port":
        server = await asyncio.start_unix_server(join, socket)
    else:
        server = await asyncio.start_server(join, "127.0.0.1", int(port))
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
