-- From version 2 to version 3: approvals, how the owner proves who it is, and the attempts of one caller by their time.
CREATE INDEX attempt_of_caller ON attempt(caller, created_at, id);
CREATE INDEX attempt_awaiting ON attempt(caller, created_at, id) WHERE state = 'awaiting_approval';
CREATE INDEX attempt_denied ON attempt(caller, ended_at) WHERE state = 'denied';
CREATE TABLE approval(
  attempt_id TEXT NOT NULL PRIMARY KEY REFERENCES attempt(id),
  bound_sha256 BLOB NOT NULL CHECK(length(bound_sha256) = 32),
  expires_at INTEGER NOT NULL,
  decided_at INTEGER,
  decision TEXT CHECK(decision IN ('approved', 'denied')),
  decided_via TEXT,
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

CREATE TABLE owner(
  one INTEGER PRIMARY KEY CHECK(one = 1),
  totp_secret TEXT,
  totp_set_at INTEGER,
  totp_step INTEGER NOT NULL DEFAULT 0,
  totp_failures INTEGER NOT NULL DEFAULT 0,
  totp_not_before INTEGER NOT NULL DEFAULT 0,
  password_hash TEXT,
  password_set_at INTEGER,
  password_failures INTEGER NOT NULL DEFAULT 0,
  password_not_before INTEGER NOT NULL DEFAULT 0,
  session_secret BLOB CHECK(length(session_secret) = 32),
  session_generation INTEGER NOT NULL DEFAULT 0,
  CHECK((totp_secret IS NULL) = (totp_set_at IS NULL)),
  CHECK((password_hash IS NULL) = (password_set_at IS NULL))) STRICT;
CREATE TRIGGER owner_code_used BEFORE UPDATE OF totp_step ON owner
  WHEN NEW.totp_step < OLD.totp_step AND NEW.totp_set_at IS OLD.totp_set_at
  BEGIN SELECT RAISE(ABORT, 'a code is used once'); END;
CREATE TRIGGER owner_signed_out BEFORE UPDATE OF session_generation ON owner
  WHEN NEW.session_generation < OLD.session_generation
  BEGIN SELECT RAISE(ABORT, 'a session that was signed out stays so'); END;
CREATE TRIGGER owner_kept BEFORE DELETE ON owner BEGIN SELECT RAISE(ABORT, 'the owner is kept'); END;
