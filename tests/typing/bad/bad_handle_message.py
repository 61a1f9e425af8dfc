"""What handle_message cannot be: another message, another answer, async in Message."""

from email.message import EmailMessage

from smtp_handlers import AsyncMessage, Message


class OtherArgument(Message):
    def handle_message(self, message: str) -> None:  # error: incompatible with supertype
        print(message)


class OtherAnswer(Message):
    def handle_message(self, message: EmailMessage) -> int:  # error: incompatible with supertype
        return 250


class Async(Message):
    async def handle_message(self, message: EmailMessage) -> str:  # error: incompatible with
        return "250 OK"


class NotAsync(AsyncMessage):
    def handle_message(self, message: EmailMessage) -> str:  # error: incompatible with supertype
        return "250 OK"
