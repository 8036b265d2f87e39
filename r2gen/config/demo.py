"""The options of task=demo."""

from dataclasses import dataclass

from r2gen.config.fields import option


@dataclass
class DemoConfig:
    """Where task=demo listens, and what it accepts (r2gen/tasks/demo/)."""

    host: str = option("address that it listens on; 127.0.0.1: only this machine reaches it")
    port: int = option("0: a free one", at_least=0, at_most=65_535)
    max_mib: int = option("size of all images of a request together", more_than=0, at_most=2048)
