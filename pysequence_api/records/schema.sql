-- .records.db, version 3: the only truth about transfers. Times are microseconds since 1970, UTC; hashes are 32 raw bytes.
-- STRICT tables need SQLite 3.37. The connection sets recursive_triggers, or INSERT OR REPLACE would pass a delete trigger.
PRAGMA application_id = 0x50534751;

CREATE TABLE store(                                   -- one row
  one INTEGER PRIMARY KEY CHECK(one = 1),
  created_at INTEGER NOT NULL,
  trail_synced INTEGER NOT NULL DEFAULT 0,            -- .audit.jsonl is on the disk up to this byte
  max_transfer_cents INTEGER, max_daily_cents INTEGER,  -- of the last `serve`; the lower ones hold
  restored_at INTEGER,                                -- the newest restore
  missing_counted_at INTEGER,                         -- when what Sequence moved and no attempt has was counted after it
  frozen_at INTEGER, frozen_reason TEXT,
  frozen_callers_only INTEGER NOT NULL DEFAULT 0 CHECK(frozen_callers_only IN (0, 1)),  -- the owner's terminal goes on
  CHECK((frozen_at IS NULL) = (frozen_reason IS NULL))) STRICT;

CREATE TABLE attempt(                                -- with a rowid, which keeps its indexes small
  id TEXT NOT NULL PRIMARY KEY,
  caller TEXT NOT NULL,
  channel TEXT NOT NULL,
  upstream TEXT,
  state TEXT NOT NULL CHECK(state IN (
    'rejected', 'awaiting_approval', 'denied', 'expired', 'cancelled', 'reserved', 'sending', 'failed', 'refused',
    'unknown', 'accepted', 'arrived', 'returned', 'not_executed')),
  amount_cents INTEGER NOT NULL CHECK(amount_cents > 0),
  source_type TEXT, source_id TEXT, destination_type TEXT, destination_id TEXT,
  organization_id TEXT, kyc_id TEXT, description TEXT,
  instant INTEGER NOT NULL DEFAULT 0 CHECK(instant IN (0, 1)),
  request_sha256 BLOB CHECK(length(request_sha256) = 32),
  key_sha256 BLOB CHECK(length(key_sha256) = 32),     -- of the idempotency key
  code TEXT, error TEXT,
  owner TEXT,                                         -- the process that works on it
  created_at INTEGER NOT NULL,
  announced_at INTEGER,
  ended_at INTEGER,                                   -- when it left `sending` or `unknown`, or was refused
  upstream_created_at INTEGER,                        -- when Sequence created the transfer, if it says so exactly
  upstream_status TEXT,                               -- the newest status that Sequence told
  followed_until INTEGER,                             -- looked up until then
  transfer_id TEXT,
  caller_key_sha256 BLOB CHECK(length(caller_key_sha256) = 32),  -- the caller's key that asked
  policy_version INTEGER, rule TEXT,                  -- what let it through, or refused it
  reason TEXT,                                        -- what the caller says why
  CHECK(state NOT IN ('sending', 'unknown') OR announced_at IS NOT NULL)) STRICT;
CREATE UNIQUE INDEX attempt_transfer ON attempt(transfer_id) WHERE transfer_id IS NOT NULL;
-- SQLite uses a partial index only for a query with the same list of states in the same order.
CREATE INDEX attempt_open ON attempt(created_at, id) WHERE state IN ('reserved', 'sending', 'unknown');
-- With every column that a sum reads: SQLite before 3.41 covers no query by an index on an expression alone.
CREATE INDEX attempt_counted
  ON attempt(coalesce(upstream_created_at, ended_at), amount_cents, caller, state, upstream_created_at, ended_at,
    source_id, destination_id)
  WHERE state IN ('accepted', 'arrived', 'returned');
CREATE INDEX attempt_followed ON attempt(followed_until) WHERE followed_until IS NOT NULL;
CREATE INDEX attempt_created ON attempt(created_at);
CREATE INDEX attempt_never ON attempt(caller, created_at) WHERE code = 'never_allowed';
CREATE INDEX attempt_of_caller ON attempt(caller, created_at, id);
CREATE INDEX attempt_awaiting ON attempt(caller, created_at, id) WHERE state = 'awaiting_approval';
CREATE INDEX attempt_denied ON attempt(caller, ended_at) WHERE state = 'denied';

CREATE TABLE idempotency(                             -- a key names its newest attempt, for ever
  caller TEXT NOT NULL,
  key_sha256 BLOB NOT NULL CHECK(length(key_sha256) = 32),
  attempt_id TEXT NOT NULL REFERENCES attempt(id),
  PRIMARY KEY(caller, key_sha256)) STRICT, WITHOUT ROWID;

CREATE TRIGGER attempt_moves BEFORE UPDATE OF state ON attempt WHEN NOT (OLD.state = NEW.state
  OR (OLD.state = 'awaiting_approval' AND NEW.state IN ('reserved', 'rejected', 'denied', 'expired', 'cancelled'))
  OR (OLD.state = 'reserved' AND NEW.state IN ('sending', 'failed', 'cancelled', 'unknown'))
  OR (OLD.state = 'sending' AND NEW.state IN ('accepted', 'refused', 'failed', 'unknown'))
  OR (OLD.state = 'unknown' AND NEW.state IN ('accepted', 'not_executed'))
  OR (OLD.state = 'not_executed' AND NEW.state IN ('accepted'))
  OR (OLD.state = 'accepted' AND NEW.state IN ('arrived', 'returned'))
  OR (OLD.state = 'arrived' AND NEW.state IN ('returned')))
  BEGIN SELECT RAISE(ABORT, 'an attempt cannot change in this way'); END;
CREATE TRIGGER attempt_fixed BEFORE UPDATE OF id, caller, channel, amount_cents, source_type, source_id, destination_type,
  destination_id, kyc_id, instant, description, request_sha256, created_at, caller_key_sha256, reason ON attempt
  BEGIN SELECT RAISE(ABORT, 'what was asked for never changes'); END;
CREATE TRIGGER attempt_kept BEFORE DELETE ON attempt BEGIN SELECT RAISE(ABORT, 'attempts are kept'); END;
CREATE TRIGGER idempotency_kept BEFORE DELETE ON idempotency BEGIN SELECT RAISE(ABORT, 'keys are kept'); END;

CREATE TABLE caller(                                  -- its audit events add up to it, its keys and the policies
  name TEXT NOT NULL PRIMARY KEY,                     -- never given out again
  created_at INTEGER NOT NULL,
  removed_at INTEGER,
  frozen_at INTEGER, frozen_reason TEXT,
  unfrozen_at INTEGER,                                -- for the last time
  CHECK((frozen_at IS NULL) = (frozen_reason IS NULL))) STRICT, WITHOUT ROWID;
CREATE TABLE caller_key(
  sha256 BLOB NOT NULL PRIMARY KEY CHECK(length(sha256) = 32),
  caller TEXT NOT NULL REFERENCES caller(name),
  hint TEXT NOT NULL,                                 -- the end of the key, for people
  created_at INTEGER NOT NULL,
  replaced_at INTEGER,                                -- since then it is the old key, beside a new one
  revoked_at INTEGER,
  last_used_at INTEGER) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX caller_key_new ON caller_key(caller) WHERE revoked_at IS NULL AND replaced_at IS NULL;
CREATE UNIQUE INDEX caller_key_old ON caller_key(caller) WHERE revoked_at IS NULL AND replaced_at IS NOT NULL;
CREATE TABLE policy(
  version INTEGER PRIMARY KEY,
  applied_at INTEGER NOT NULL,
  sha256 BLOB NOT NULL CHECK(length(sha256) = 32),    -- of the text
  text TEXT,                                          -- NULL if a restore knows it from the audit trail alone
  from_file INTEGER NOT NULL CHECK(from_file IN (0, 1))) STRICT;  -- a start of `serve` applied it

CREATE TRIGGER caller_fixed BEFORE UPDATE OF name, created_at ON caller
  BEGIN SELECT RAISE(ABORT, 'the name of a caller never changes'); END;
CREATE TRIGGER caller_ended BEFORE UPDATE ON caller WHEN OLD.removed_at IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a removed caller never changes'); END;
CREATE TRIGGER caller_kept BEFORE DELETE ON caller BEGIN SELECT RAISE(ABORT, 'callers are kept'); END;
CREATE TRIGGER caller_key_given BEFORE INSERT ON caller_key
  WHEN EXISTS(SELECT 1 FROM caller WHERE name = NEW.caller AND removed_at IS NOT NULL)
  BEGIN SELECT RAISE(ABORT, 'a removed caller gets no key'); END;
CREATE TRIGGER caller_key_fixed BEFORE UPDATE OF sha256, caller, hint, created_at ON caller_key
  BEGIN SELECT RAISE(ABORT, 'a key never changes'); END;
CREATE TRIGGER caller_key_ended BEFORE UPDATE OF replaced_at, revoked_at ON caller_key WHEN OLD.revoked_at IS NOT NULL
  OR (OLD.replaced_at IS NOT NULL AND NEW.replaced_at IS NOT OLD.replaced_at)
  BEGIN SELECT RAISE(ABORT, 'a key that was replaced or revoked stays so'); END;
CREATE TRIGGER caller_key_kept BEFORE DELETE ON caller_key BEGIN SELECT RAISE(ABORT, 'keys are kept'); END;
CREATE TRIGGER policy_follows BEFORE INSERT ON policy
  WHEN NEW.version <> 1 + (SELECT coalesce(max(version), 0) FROM policy)
  BEGIN SELECT RAISE(ABORT, 'a policy must follow the last one'); END;
CREATE TRIGGER policy_fixed BEFORE UPDATE ON policy BEGIN SELECT RAISE(ABORT, 'policies never change'); END;
CREATE TRIGGER policy_kept BEFORE DELETE ON policy BEGIN SELECT RAISE(ABORT, 'policies are kept'); END;

CREATE TABLE approval(                                -- one for each attempt that the owner was asked about
  attempt_id TEXT NOT NULL PRIMARY KEY REFERENCES attempt(id),
  bound_sha256 BLOB NOT NULL CHECK(length(bound_sha256) = 32),  -- of what the owner is shown, and decides about
  expires_at INTEGER NOT NULL,
  decided_at INTEGER,
  decision TEXT CHECK(decision IN ('approved', 'denied')),
  decided_via TEXT,                                   -- the channel on which the owner decided
  CHECK((decision IS NULL) = (decided_at IS NULL) AND (decision IS NULL) = (decided_via IS NULL)),
  CHECK(decision IS NOT 'approved' OR decided_at < expires_at)) STRICT, WITHOUT ROWID;
CREATE TRIGGER approval_asked BEFORE INSERT ON approval
  WHEN NOT EXISTS(SELECT 1 FROM attempt WHERE id = NEW.attempt_id AND state = 'awaiting_approval')
  BEGIN SELECT RAISE(ABORT, 'only an attempt that waits has an approval'); END;
CREATE TRIGGER approval_fixed BEFORE UPDATE OF attempt_id, bound_sha256, expires_at ON approval
  BEGIN SELECT RAISE(ABORT, 'what the owner decides about never changes'); END;
CREATE TRIGGER approval_decided BEFORE UPDATE ON approval WHEN OLD.decision IS NOT NULL
  OR NOT EXISTS(SELECT 1 FROM attempt WHERE id = NEW.attempt_id AND state = 'awaiting_approval')
  BEGIN SELECT RAISE(ABORT, 'an approval is decided once'); END;
CREATE TRIGGER approval_kept BEFORE DELETE ON approval BEGIN SELECT RAISE(ABORT, 'approvals are kept'); END;
CREATE TRIGGER attempt_approved BEFORE UPDATE OF state ON attempt
  WHEN OLD.state = 'awaiting_approval' AND NEW.state = 'reserved'
  AND NOT EXISTS(SELECT 1 FROM approval WHERE attempt_id = OLD.id AND decision = 'approved')
  BEGIN SELECT RAISE(ABORT, 'only an approved attempt goes on'); END;

CREATE TABLE owner(                                   -- at most one row: how the owner proves who it is
  one INTEGER PRIMARY KEY CHECK(one = 1),
  totp_secret TEXT,                                   -- in base32; NULL if there is none here
  totp_set_at INTEGER,
  totp_step INTEGER NOT NULL DEFAULT 0,               -- of the newest code that was used: 30 seconds each, since 1970
  totp_failures INTEGER NOT NULL DEFAULT 0,           -- wrong codes since the last right one
  totp_not_before INTEGER NOT NULL DEFAULT 0,         -- the next code is looked at then
  password_hash TEXT,                                 -- of the owner's page: scrypt$n$r$p$salt$hash
  password_set_at INTEGER,
  password_failures INTEGER NOT NULL DEFAULT 0,
  password_not_before INTEGER NOT NULL DEFAULT 0,
  session_secret BLOB CHECK(length(session_secret) = 32),  -- signs the cookies of the page
  session_generation INTEGER NOT NULL DEFAULT 0,      -- cookies of an earlier one are signed out
  CHECK((totp_secret IS NULL) = (totp_set_at IS NULL)),
  CHECK((password_hash IS NULL) = (password_set_at IS NULL))) STRICT;
CREATE TRIGGER owner_code_used BEFORE UPDATE OF totp_step ON owner
  WHEN NEW.totp_step < OLD.totp_step AND NEW.totp_set_at IS OLD.totp_set_at
  BEGIN SELECT RAISE(ABORT, 'a code is used once'); END;
CREATE TRIGGER owner_signed_out BEFORE UPDATE OF session_generation ON owner
  WHEN NEW.session_generation < OLD.session_generation
  BEGIN SELECT RAISE(ABORT, 'a session that was signed out stays so'); END;
CREATE TRIGGER owner_kept BEFORE DELETE ON owner BEGIN SELECT RAISE(ABORT, 'the owner is kept'); END;

CREATE TABLE audit(
  seq INTEGER PRIMARY KEY,
  start INTEGER NOT NULL,                             -- byte offset of the line in .audit.jsonl
  line BLOB NOT NULL,
  sha256 BLOB NOT NULL CHECK(length(sha256) = 32),
  at INTEGER NOT NULL,
  event_type TEXT NOT NULL,
  attempt_id TEXT,
  caller TEXT) STRICT;
CREATE INDEX audit_attempt ON audit(attempt_id) WHERE attempt_id IS NOT NULL;
CREATE INDEX audit_unfrozen ON audit(at) WHERE event_type = 'unfrozen' AND caller IS NULL;
CREATE TRIGGER audit_follows BEFORE INSERT ON audit WHEN NEW.seq <> 1 + (SELECT coalesce(max(seq), 0) FROM audit)
  OR NEW.start <> coalesce((SELECT start + length(line) + 1 FROM audit ORDER BY seq DESC LIMIT 1), 0)
  BEGIN SELECT RAISE(ABORT, 'an audit event must follow the last one'); END;
CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit events never change'); END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit events are kept'); END;

CREATE TABLE name(                                    -- for screens; decides nothing
  id TEXT PRIMARY KEY, name TEXT NOT NULL) STRICT, WITHOUT ROWID;

PRAGMA user_version = 3;
