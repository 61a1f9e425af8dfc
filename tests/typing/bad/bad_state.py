"""State that needs arguments, and state that is taken for what it is not."""

from smtp_protocol import Envelope, Session


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


class Count:
    number = 0


def use(session: Session, envelope: Envelope) -> str:
    session.state(Named)  # error: Argument 1 to "state" of "_Stateful" has incompatible type
    envelope.state(Count).numbr += 1  # error: "Count" has no attribute "numbr"
    return session.state(Count).number  # error: Incompatible return value type (got "int"
