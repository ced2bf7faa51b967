"""The shop's components. Two dictionaries stand in for the services, so that the example needs no network."""

import msgspec

import stepflow

app = stepflow.Components()

SERVICES = {
    "https://shop.test/sandbox": {"pencil": 1.0, "lamp": 10.0},
    "https://shop.test/live": {"pencil": 2.0, "lamp": 40.0},
}


class Question(msgspec.Struct):
    url: str
    key: str
    sku: str


class Quote(msgspec.Struct):
    sku: str
    price: float
    discount: float = 0.0


@app.component("/price")
async def price(question: Question) -> Quote:
    """Ask the shop for the price of an article."""
    if not question.key:
        raise stepflow.InvalidInputError("the shop wants a key")
    prices = SERVICES.get(question.url)
    if prices is None:
        raise stepflow.ResourceUnavailableError(f"no shop answers at {question.url}")
    if question.sku not in prices:
        raise stepflow.InvalidInputError(f"the shop has no article {question.sku!r}")
    return Quote(sku=question.sku, price=prices[question.sku])


@app.component("/discounted")
def discounted(quote: Quote) -> Quote:
    """A quarter off whatever costs more than 5."""
    discount = 0.25 if quote.price > 5 else 0.0
    return Quote(sku=quote.sku, price=quote.price * (1 - discount), discount=discount)
