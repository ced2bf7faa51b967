"""Which services and messages there are, as tools ask before they call."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import grpc

from stepflow_grpc.details import short
from stepflow_grpc.messages import POOL, message

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
"""Both have the same shape; older tools speak the second alone."""


class Reflection:
    """The service `ServerReflection` of one of its versions.

    Args:
        services: the full names of those that are served.
    """

    def __init__(self, package: str, services: Sequence[str]) -> None:
        self._response = message(f"{package}.ServerReflectionResponse")
        self._services = sorted(services)

    async def ServerReflectionInfo(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            response = self._response(valid_host=request.host, original_request=request)
            try:
                self._answer(request, response)
            except KeyError as error:
                response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
                response.error_response.error_message = f"{short(str(error.args[0]))} not found"
            yield response

    def _answer(self, request: Any, response: Any) -> None:
        """Raises: KeyError, whose text is what is not there."""
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _add_files(_found(POOL.FindFileByName, request.file_by_filename), response)
            case "file_containing_symbol":
                _add_files(_file_of(request.file_containing_symbol), response)
            case "file_containing_extension":
                asked = request.file_containing_extension
                kind = _found(POOL.FindMessageTypeByName, asked.containing_type)
                try:
                    found: Any = POOL.FindExtensionByNumber(kind, asked.extension_number)
                except KeyError:
                    name = f"extension {asked.extension_number} of '{asked.containing_type}'"
                    raise KeyError(name) from None
                _add_files(found.file, response)
            case "all_extension_numbers_of_type":
                name = request.all_extension_numbers_of_type
                numbers = [found.number for found in POOL.FindAllExtensions(_found(POOL.FindMessageTypeByName, name))]
                response.all_extension_numbers_response.base_type_name = name
                response.all_extension_numbers_response.extension_number.extend(numbers)
            case _:
                response.error_response.error_code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                response.error_response.error_message = "the request asks nothing"


def _found(find: Any, name: str) -> Any:
    try:
        return find(name)
    except KeyError:
        raise KeyError(f"'{name}'") from None


def _file_of(symbol: str) -> Any:
    """The file of a message, an enum, a service, or of one of its methods."""
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        name, _, method = symbol.rpartition(".")
    try:
        service = POOL.FindServiceByName(name)
        service.methods_by_name[method]
    except KeyError:
        raise KeyError(f"'{symbol}'") from None
    return service.file


def _add_files(file: Any, response: Any) -> None:
    for found in _with_imports(file, {}):
        response.file_descriptor_response.file_descriptor_proto.append(found.serialized_pb)


def _with_imports(file: Any, seen: dict[str, None]) -> Iterator[Any]:
    if file.name in seen:
        return
    seen[file.name] = None
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported, seen)
