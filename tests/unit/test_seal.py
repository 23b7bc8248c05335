import copy
import pickle
import stat

import pytest

from headend.keys.seal import Fingerprint, MasterKey, Sealer, SealError, create_master_key_file, load_sealer
from protocols.dlms.security import Key
from schemas.config import Settings
from schemas.meter import KeyPurpose

PURPOSE = KeyPurpose.ENCRYPTION
SECRET = bytes(range(32))
KEY = Key(b"0123456789abcdef")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("MASTER_KEY", "MASTER_KEY_FILE", "FORMER_MASTER_KEYS", "CONFIG"):
        monkeypatch.delenv(f"HEADEND_{name}", raising=False)


def test_a_key_comes_back_for_its_meter_and_purpose_alone():
    sealer = Sealer(MasterKey(SECRET))
    sealed = sealer.seal(KEY, 7, PURPOSE)
    assert sealer.open(sealed, sealer.current_id, 7, PURPOSE) == KEY
    assert KEY.reveal() not in sealed
    assert sealer.seal(KEY, 7, PURPOSE) != sealed  # a nonce of its own
    for meter, purpose in ((8, PURPOSE), (7, KeyPurpose.AUTHENTICATION), (0, PURPOSE)):
        with pytest.raises(SealError, match="belongs elsewhere"):
            sealer.open(sealed, sealer.current_id, meter, purpose)


def test_every_changed_byte_is_noticed():
    sealer = Sealer(MasterKey(SECRET))
    sealed = sealer.seal(KEY, 0, PURPOSE)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealError):
            sealer.open(bytes(changed), sealer.current_id, 0, PURPOSE)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            sealer.open(sealed[:length], sealer.current_id, 0, PURPOSE)


def test_a_former_master_key_still_opens():
    old, new = MasterKey(SECRET), MasterKey(bytes(32))
    sealed = Sealer(old).seal(KEY, 7, PURPOSE)
    assert Sealer(new, [old]).open(sealed, old.key_id, 7, PURPOSE) == KEY
    assert Sealer(new, [old]).current_id == new.key_id
    with pytest.raises(SealError, match=f"sealed by master key {old.key_id}.*former_master_keys"):
        Sealer(new).open(sealed, old.key_id, 7, PURPOSE)


def test_secrets_stay_dark():
    master, fingerprint = MasterKey(SECRET), Fingerprint(SECRET)
    for thing in (master, Sealer(master), fingerprint):
        assert SECRET.hex() not in repr(thing)
        assert repr(SECRET)[2:-1] not in repr(thing)
    for thing in (master, fingerprint):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
        with pytest.raises(TypeError):
            copy.copy(thing)
    assert master.key_id not in SECRET.hex()


def test_fingerprints_tell_keys_apart_and_depend_on_their_own_key():
    fingerprint = Fingerprint(SECRET)
    assert fingerprint.of(KEY) == Fingerprint(SECRET).of(Key(KEY.reveal()))
    assert len(fingerprint.of(KEY)) == 32
    assert fingerprint.of(KEY) != fingerprint.of(Key(bytes(16)))
    assert fingerprint.of(KEY) != Fingerprint(bytes(32)).of(KEY)


def test_without_a_master_key_the_error_says_how_to_give_one():
    with pytest.raises(SealError, match=r"HEADEND_MASTER_KEY_FILE.*openssl rand -hex 32"):
        load_sealer(Settings())


@pytest.mark.parametrize("text", ["", "12", "zz" * 32, "00" * 31, "00" * 33])
def test_a_wrong_master_key_is_not_repeated_in_its_error(text):
    with pytest.raises(SealError, match="64 hexadecimal digits") as wrong:
        MasterKey.from_hex(text, where="master_key")
    assert text == "" or text not in str(wrong.value)


def test_the_file_is_the_owners_alone(tmp_path):
    path = tmp_path / "master.key"
    create_master_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    create_master_key_file(path)
    assert path.read_text() == before
    sealer = load_sealer(Settings(master_key_file=path))
    assert sealer.current_id == MasterKey.from_hex(before, where="x").key_id
    for mode in (0o604, 0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(SealError, match="open to others: chmod 600"):
            load_sealer(Settings(master_key_file=path))
    path.unlink()
    with pytest.raises(SealError, match="cannot be read: FileNotFoundError"):
        load_sealer(Settings(master_key_file=path))


def test_former_keys_come_from_the_settings():
    old = MasterKey(SECRET)
    sealed = Sealer(old).seal(KEY, 1, PURPOSE)
    settings = Settings(master_key="00" * 32, former_master_keys=f"{'11' * 32},{SECRET.hex()}")
    assert load_sealer(settings).open(sealed, old.key_id, 1, PURPOSE) == KEY
