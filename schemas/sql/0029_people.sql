-- Accounts of people: how they prove who they are, what they may do and where, their sessions.
-- depends: 0020_programs

CREATE TABLE accounts (
    account_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login          text NOT NULL UNIQUE,                    -- lower case: schemas.people.Login
    title          text NOT NULL,                           -- how the person is called
    state          text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'locked', 'disabled')),
    password       text,                                    -- argon2id in its own written form; NULL: none
    password_at    timestamptz,
    must_change    boolean NOT NULL DEFAULT false,          -- somebody else knows the password
    totp           bytea,                                   -- the secret of one-time passwords, sealed by the master key
    totp_sealed_by text,
    totp_since     timestamptz,                             -- NULL: not confirmed yet, asked of nobody
    totp_step      bigint,                                  -- the newest time step that was used: none is used twice
    oidc_issuer    text,
    oidc_subject   text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (oidc_issuer, oidc_subject),
    CHECK ((totp IS NULL) = (totp_sealed_by IS NULL) AND (totp_since IS NULL OR totp IS NOT NULL)),
    CHECK ((oidc_issuer IS NULL) = (oidc_subject IS NULL))
);

-- What an account may do (schemas.people.Role), and where: the name of a group, the code of a concentrator, gateway
-- or substation, or '' for everywhere.
CREATE TABLE account_roles (
    account_id integer NOT NULL REFERENCES accounts,
    role       text NOT NULL,
    area       text NOT NULL DEFAULT '',
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, role, area)
);

-- Codes that stand in for a one-time password when the device is lost: SHA-256 of so much chance needs no salt.
CREATE TABLE recovery_codes (
    account_id integer NOT NULL REFERENCES accounts,
    digest     bytea NOT NULL,
    used_at    timestamptz,
    PRIMARY KEY (account_id, digest)
);

CREATE TABLE sessions (
    session_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    integer NOT NULL REFERENCES accounts,
    kind          text NOT NULL CHECK (kind IN ('browser', 'cli')),
    digest        bytea NOT NULL UNIQUE,                    -- SHA-256 of a secret of 256 random bits
    second_factor boolean NOT NULL,                         -- whether more than a password was shown
    created_at    timestamptz NOT NULL,
    seen_at       timestamptz NOT NULL,                     -- to the minute
    idle_s        integer NOT NULL,                         -- it ends so long after it was last seen,
    expires_at    timestamptz NOT NULL,                     -- and then at the latest
    ended_at      timestamptz,
    address       text,
    user_agent    text
);
CREATE INDEX sessions_by_account ON sessions (account_id, session_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Log-ins that failed, by what they are counted by: 'login:...' or 'address:...'. Kept for a day.
CREATE TABLE login_attempts (
    key      text PRIMARY KEY,
    failures integer NOT NULL,
    last_at  timestamptz NOT NULL,
    until    timestamptz NOT NULL                           -- none is tried before
);
CREATE INDEX login_attempts_by_age ON login_attempts (last_at);

-- Log-ins that are under way at the provider of identities, each for the browser that began it.
CREATE TABLE oidc_logins (
    digest     bytea PRIMARY KEY,                           -- SHA-256 of the state
    binding    bytea NOT NULL,                              -- SHA-256 of what that browser keeps
    nonce      text NOT NULL,
    verifier   text NOT NULL,                               -- of the code challenge (RFC 7636)
    expires_at timestamptz NOT NULL
);

-- Whose a token is (accounts.account_id, without a constraint: older processes go on writing here); NULL: nobody's.
-- It may do what both its scopes and this account's roles allow.
ALTER TABLE api_tokens ADD COLUMN account_id integer;
CREATE INDEX api_tokens_by_account ON api_tokens (account_id) WHERE account_id IS NOT NULL;
