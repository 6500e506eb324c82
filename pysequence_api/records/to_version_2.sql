-- From version 1 to version 2: callers with keys, policies, and what of them an attempt names. What schema.sql makes
-- new, this makes in a database with attempts; both come out the same.
ALTER TABLE attempt ADD COLUMN caller_key_sha256 BLOB CHECK(length(caller_key_sha256) = 32);
ALTER TABLE attempt ADD COLUMN policy_version INTEGER;
ALTER TABLE attempt ADD COLUMN rule TEXT;
ALTER TABLE attempt ADD COLUMN reason TEXT;
DROP INDEX attempt_counted;
CREATE INDEX attempt_counted
  ON attempt(coalesce(upstream_created_at, ended_at), amount_cents, caller, state, upstream_created_at, ended_at,
    source_id, destination_id)
  WHERE state IN ('accepted', 'arrived', 'returned');
CREATE INDEX attempt_never ON attempt(caller, created_at) WHERE code = 'never_allowed';
CREATE INDEX audit_unfrozen ON audit(at) WHERE event_type = 'unfrozen' AND caller IS NULL;
DROP TRIGGER attempt_fixed;
CREATE TRIGGER attempt_fixed BEFORE UPDATE OF id, caller, channel, amount_cents, source_type, source_id, destination_type,
  destination_id, kyc_id, instant, description, request_sha256, created_at, caller_key_sha256, reason ON attempt
  BEGIN SELECT RAISE(ABORT, 'what was asked for never changes'); END;

CREATE TABLE caller(
  name TEXT NOT NULL PRIMARY KEY,
  created_at INTEGER NOT NULL,
  removed_at INTEGER,
  frozen_at INTEGER, frozen_reason TEXT,
  unfrozen_at INTEGER,
  CHECK((frozen_at IS NULL) = (frozen_reason IS NULL))) STRICT, WITHOUT ROWID;
CREATE TABLE caller_key(
  sha256 BLOB NOT NULL PRIMARY KEY CHECK(length(sha256) = 32),
  caller TEXT NOT NULL REFERENCES caller(name),
  hint TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  replaced_at INTEGER,
  revoked_at INTEGER,
  last_used_at INTEGER) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX caller_key_new ON caller_key(caller) WHERE revoked_at IS NULL AND replaced_at IS NULL;
CREATE UNIQUE INDEX caller_key_old ON caller_key(caller) WHERE revoked_at IS NULL AND replaced_at IS NOT NULL;
CREATE TABLE policy(
  version INTEGER PRIMARY KEY,
  applied_at INTEGER NOT NULL,
  sha256 BLOB NOT NULL CHECK(length(sha256) = 32),
  text TEXT,
  from_file INTEGER NOT NULL CHECK(from_file IN (0, 1))) STRICT;

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
