"""A misspelt hook, and nothing else: the object has no hook at all."""

from smtp_protocol import AnyHandler, Envelope, Hooks, RcptOptions, Server, Session


class Misspelt:
    async def handle_RCTP(
        self,
        server: Server,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: RcptOptions,
    ) -> str:
        return "250 OK"


class Nothing:
    pass


handler: AnyHandler = Misspelt()  # error: Incompatible types in assignment
Hooks(Misspelt())  # error: Argument 1 to "Hooks" has incompatible type "Misspelt"
Hooks(Nothing())  # error: Argument 1 to "Hooks" has incompatible type "Nothing"
Hooks(Misspelt)  # error: Argument 1 to "Hooks" has incompatible type "type[Misspelt]"
