"""What the programs of the lab cannot do."""


class ProgramCannotRun(RuntimeError):
    """A program of the lab cannot be run as the templates say: `resource` lacks what `missing` names."""

    def __init__(self, resource: str, missing: str) -> None:
        super().__init__(f"{resource}: {missing}")
        self.resource, self.missing = resource, missing
