"""Files that are whole or absent: npz, JSON, CSV, checkpoints, and the cache folder.

Files appear under their names only when complete (`atomic_write`), so a file that is there is
finished work. State that is read back (`read_npz`, `read_json`, `read_jsonl`) is checked first:
a damaged file raises `DamagedFileError`, and `is_done` says no, so that the part is made again.
"""

from metamer_jax.storage.atomic import atomic_write as atomic_write
from metamer_jax.storage.reading import ZIP_DAMAGE as ZIP_DAMAGE
from metamer_jax.storage.reading import DamagedFileError as DamagedFileError
from metamer_jax.storage.reading import in_rows as in_rows
from metamer_jax.storage.reading import is_done as is_done
from metamer_jax.storage.reading import map_npz as map_npz
from metamer_jax.storage.reading import read_at_most as read_at_most
from metamer_jax.storage.reading import read_csv as read_csv
from metamer_jax.storage.reading import read_json as read_json
from metamer_jax.storage.reading import read_jsonl as read_jsonl
from metamer_jax.storage.reading import read_npz as read_npz
from metamer_jax.storage.reading import read_regular as read_regular
from metamer_jax.storage.reading import take as take
from metamer_jax.storage.writing import Rows as Rows
from metamer_jax.storage.writing import StorageError as StorageError
from metamer_jax.storage.writing import append_jsonl as append_jsonl
from metamer_jax.storage.writing import copy_file as copy_file
from metamer_jax.storage.writing import storage_errors as storage_errors
from metamer_jax.storage.writing import write_bytes as write_bytes
from metamer_jax.storage.writing import write_csv as write_csv
from metamer_jax.storage.writing import write_json as write_json
from metamer_jax.storage.writing import write_jsonl as write_jsonl
from metamer_jax.storage.writing import write_npz as write_npz
from metamer_jax.storage.writing import write_text as write_text
