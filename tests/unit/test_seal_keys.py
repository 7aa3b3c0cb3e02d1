"""The keys of a process: how the secret is written, and when a process looks at it again."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from domain.errors import SecretUnavailable
from domain.ids import DestinationId
from egress.seal_key_store import KeysChanged, SealKeyStore, new_text
from egress.seal_keys import (
    AGAIN_SECONDS,
    FRESH_SECONDS,
    MOST_KEYS,
    STALE_SECONDS,
    KeyStep,
    SealKeyRing,
    SealKeys,
    load_seal_keys,
    read_keys,
    written_keys,
)
from egress.sealing import SealKey, key_id_of, seal, unseal
from runtime.settings import SealKeySettings, SettingsError

HERE = DestinationId(UUID(int=1))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD, NEW, OTHER = "o" * 64, "n" * 64, "x" * 64
BOTH = SealKeys(texts=(NEW, OLD), step=KeyStep.SEALING, at=NOW, kept_seed=SealKey.derived_from(OLD).allowlist_seed)


class Secret:
    """What a process loads, and how often it did."""

    def __init__(self, *texts: str) -> None:
        self.keys = SealKeys(texts=texts)
        self.loads = 0
        self.is_down = False
        self.now = NOW

    def __call__(self) -> SealKeys:
        self.loads += 1
        if self.is_down:
            raise SecretUnavailable("Secrets Manager: timed out", retry_after_seconds=5)
        return self.keys

    def ring(self) -> SealKeyRing:
        return SealKeyRing(self, clock=lambda: self.now)

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def sealed_with(text: str) -> bytes:
    return seal(b"secret", purpose="signing", destination_id=HERE, key=SealKey.derived_from(text))


def opened(sealed: bytes, ring: SealKeyRing) -> bytes:
    return unseal(sealed, purpose="signing", destination_id=HERE, keys=ring.opening(sealed))


def test_a_random_text_is_one_key_and_json_is_several_of_which_the_first_seals() -> None:
    assert read_keys(OLD, source="S") == SealKeys(texts=(OLD,))
    assert read_keys(written_keys(BOTH), source="S") == BOTH
    assert BOTH.keys == (SealKey.derived_from(NEW), SealKey.derived_from(OLD))


def test_the_allowlists_key_stays_what_it_was_before_the_first_rotation() -> None:
    before = read_keys(OLD, source="S").allowlist_seed
    settled = SealKeys(texts=(NEW,), kept_seed=before)
    assert read_keys(written_keys(BOTH), source="S").allowlist_seed == before
    assert read_keys(written_keys(settled), source="S").allowlist_seed == before
    assert SealKeys(texts=(NEW,)).allowlist_seed != before


def written(**members: object) -> str:
    return json.dumps({"version": 1, "keys": [OLD], **members})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"version":1}',
        written(version=2),
        written(keys=[]),
        written(keys=["short"]),
        written(keys=[OLD, OLD]),
        written(keys=[f"{number:032}" for number in range(MOST_KEYS + 1)]),
        written(step="begun"),
        written(allowlist_seed="AAAA"),
        written(more=1),
        "short",
        "",
    ],
)
def test_what_is_no_secret_of_ours_is_refused_by_the_name_of_its_source_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^SEAL_KEY_SECRET_ARN") as refused:
        read_keys(text, source="SEAL_KEY_SECRET_ARN")
    assert OLD not in str(refused.value)
    assert OLD not in repr(refused.value.__cause__)


def test_neither_texts_nor_seed_are_in_a_repr() -> None:
    assert OLD not in repr(BOTH)
    assert NEW not in repr(BOTH)
    assert "seed" not in repr(BOTH)


def test_a_value_says_which_key_sealed_it() -> None:
    assert key_id_of(sealed_with(OLD)) == SealKey.derived_from(OLD).key_id
    assert key_id_of(b"") == key_id_of(b"\x02" + bytes(60)) == b""


def test_keys_are_fetched_once_however_much_is_opened() -> None:
    secret = Secret(OLD)
    ring = secret.ring()
    assert secret.loads == 0
    assert [opened(sealed_with(OLD), ring) for _ in range(3)] == [b"secret"] * 3
    assert ring.opening(None) == []
    secret.forward(1e6)
    assert opened(sealed_with(OLD), ring) == b"secret"
    assert secret.loads == 1


def test_a_key_that_is_not_known_is_looked_for_once_and_then_known() -> None:
    secret = Secret(OLD)
    ring = secret.ring()
    opened(sealed_with(OLD), ring)
    secret.keys = BOTH
    secret.forward(AGAIN_SECONDS)
    assert opened(sealed_with(NEW), ring) == b"secret"
    assert opened(sealed_with(OLD), ring) == b"secret"
    assert secret.loads == 2


def test_a_key_that_nobody_knows_costs_one_look_in_a_while() -> None:
    secret = Secret(OLD)
    ring = secret.ring()
    opened(sealed_with(OLD), ring)
    secret.forward(AGAIN_SECONDS - 1)
    assert [ring.opening(sealed_with(OTHER)) for _ in range(3)] == [[], [], []]
    assert secret.loads == 1
    secret.forward(1)
    assert [ring.opening(sealed_with(OTHER)) for _ in range(3)] == [[], [], []]
    assert secret.loads == 2
    secret.is_down = True
    secret.forward(AGAIN_SECONDS)
    assert [ring.opening(sealed_with(OTHER)) for _ in range(3)] == [[], [], []]
    assert secret.loads == 3
    assert opened(sealed_with(OLD), ring) == b"secret"


def test_a_process_seals_with_the_key_of_the_last_minute() -> None:
    secret = Secret(OLD)
    ring = secret.ring()
    assert ring.sealing == SealKey.derived_from(OLD)
    secret.keys = BOTH
    secret.forward(FRESH_SECONDS - 1)
    assert ring.sealing == SealKey.derived_from(OLD)
    secret.forward(1)
    assert ring.sealing == SealKey.derived_from(NEW)
    assert ring.allowlist_seed == SealKey.derived_from(OLD).allowlist_seed
    assert secret.loads == 2


def test_without_secrets_manager_a_process_seals_for_half_an_hour_with_what_it_has() -> None:
    secret = Secret(OLD)
    ring = secret.ring()
    ring.ready()
    secret.is_down = True
    secret.forward(FRESH_SECONDS)
    assert {ring.sealing for _ in range(3)} == {SealKey.derived_from(OLD)}
    assert secret.loads == 2
    secret.forward(STALE_SECONDS - FRESH_SECONDS - 1)
    assert ring.sealing == SealKey.derived_from(OLD)
    secret.forward(1)
    with pytest.raises(SecretUnavailable):
        _ = ring.sealing
    assert opened(sealed_with(OLD), ring) == b"secret"


def test_a_process_that_never_had_a_key_says_so() -> None:
    secret = Secret(OLD)
    secret.is_down = True
    with pytest.raises(SecretUnavailable):
        secret.ring().opening(sealed_with(OLD))
    with pytest.raises(SecretUnavailable):
        secret.ring().ready()


def store_of(tmp_path: Path, text: str = OLD) -> SealKeyStore:
    file = tmp_path / "seal.key"
    file.write_text(text)
    file.chmod(0o600)
    return SealKeyStore(SealKeySettings(seal_key_file=str(file)))


def test_a_file_is_replaced_by_one_of_the_same_mode_and_nothing_is_left_over(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.replace(store.read(), BOTH)
    assert store.read().keys == BOTH
    assert load_seal_keys(SealKeySettings(seal_key_file=str(tmp_path / "seal.key"))) == BOTH
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "seal.key": 0o600,
        "seal.key.lock": 0o600,
    }


def test_of_two_who_replace_the_same_file_the_second_changes_nothing(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    first, second = store.read(), store.read()
    store.replace(first, BOTH)
    with pytest.raises(KeysChanged):
        store.replace(second, SealKeys(texts=(OTHER, OLD)))
    assert store.read().keys == BOTH


def test_a_file_that_somebody_began_to_write_is_no_obstacle(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (tmp_path / "seal.key.next").write_text("half of a")
    store.replace(store.read(), BOTH)
    assert store.read().keys == BOTH


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    found = store.read()
    (tmp_path / "seal.key.next").mkdir()
    with pytest.raises(SettingsError, match="SEAL_KEY_FILE cannot be replaced"):
        store.replace(found, BOTH)


def test_a_store_without_a_place_says_what_to_set() -> None:
    with pytest.raises(SettingsError, match="SEAL_KEY_SECRET_ARN must be set"):
        SealKeyStore(SealKeySettings())


def test_a_new_key_is_as_long_as_secrets_manager_makes_the_first_one_and_each_time_another() -> None:
    texts = {new_text(SealKeys(texts=(OLD,))) for _ in range(3)}
    assert len(texts) == 3
    assert {len(text) for text in texts} == {64}
