-- =====================================================================================
-- schema.sql -  REFERENCE schema for a human-services case-management system
--
-- NOT Casebook's real schema (that is private).  Shapes that ARE backed by public evidence
-- are marked [E-n]; n points to the numbered fact in REPORT.md.  Everything else is a
-- modelling decision.  Target: PostgreSQL 14+.  Loads into an empty database:
--     psql -v ON_ERROR_STOP=1 -1 -f schema.sql
--
-- Schemas mirror the public API's service prefixes [E-4]:
--   membership (tenants, users, assignments) / people / intake / cases / providers /
--   services / content (notes, attachments, mail, sms, forms, calendar) / tasks / ops / config
--
-- How a child points at its record, deliberately in every style found in real systems:
--   S1  plain foreign key                    cases.case_involvements.case_id
--   S2  <x>_type + <x>_id pair, enum         content.notes.notable_type / notable_id
--   S3  <x>_type + <x>_id pair, text, whose
--       type may also be ANOTHER CHILD       content.attachments.attachable_type = 'note'
--   S4  several nullable FKs, exactly one    content.events.case_id/report_id/provider_id/person_id
--   S5  S4 plus a FK to another child        tasks.tasks.workflow_step_id
--   S6  multi-hop                            services.service_interactions -> service_enrollments -> cases
--   S7  conditional owner                    services.service_enrollments (case, else provider via offering)
--   S8  two owners                           people.relationships, cases.case_involvements
--   S9  reverse hop through a link table     people.addresses <- person_addresses / locations / incidents
-- =====================================================================================

CREATE EXTENSION IF NOT EXISTS citext;

CREATE SCHEMA app;         -- domains, enums, functions
CREATE SCHEMA config;
CREATE SCHEMA membership;
CREATE SCHEMA people;
CREATE SCHEMA intake;
CREATE SCHEMA cases;
CREATE SCHEMA providers;
CREATE SCHEMA services;
CREATE SCHEMA content;
CREATE SCHEMA tasks;
CREATE SCHEMA ops;

-- -------------------------------------------------------------------------------------
-- 1. Domains and enums
-- -------------------------------------------------------------------------------------
CREATE DOMAIN app.email_address AS public.citext
  CHECK (VALUE ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$');
CREATE DOMAIN app.phone_number AS text CHECK (VALUE ~ '^\+?[0-9]{7,15}$');
CREATE DOMAIN app.ssn          AS text CHECK (VALUE ~ '^[0-9]{3}-[0-9]{2}-[0-9]{4}$');
CREATE DOMAIN app.usd          AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN app.units        AS numeric(10,2) CHECK (VALUE >= 0);

CREATE TYPE app.record_type        AS ENUM ('case','report','provider','person');
CREATE TYPE app.plan_tier          AS ENUM ('starter','team','enterprise');
CREATE TYPE app.user_kind          AS ENUM ('staff','volunteer','portal','external_application','system'); -- [E-14][E-15]
CREATE TYPE app.user_status        AS ENUM ('invited','active','disabled');
CREATE TYPE app.yes_no_unknown     AS ENUM ('yes','no','unable to determine','unknown');                   -- [E-9]
CREATE TYPE app.report_type        AS ENUM ('inquiry','service_referral','incident');                      -- [E-17]
CREATE TYPE app.report_status      AS ENUM ('draft','submitted','in_review','decided','closed');
CREATE TYPE app.screening_outcome  AS ENUM ('screened_in','screened_out','information_only');
CREATE TYPE app.provider_status    AS ENUM ('applicant','active','on_hold','closed');                      -- [E-18]
CREATE TYPE app.license_status     AS ENUM ('pending','active','provisional','expired','suspended','revoked');
CREATE TYPE app.enrollment_kind    AS ENUM ('internal_staff','external_referral','provider_offering');     -- [E-11]
CREATE TYPE app.enrollment_status  AS ENUM ('pending','in_progress','completed','cancelled','discarded');
CREATE TYPE app.attendance         AS ENUM ('attended','no_show','excused','late');
CREATE TYPE app.note_type          AS ENUM ('general','service_delivery','contact','progress','meeting','email'); -- [E-12]
CREATE TYPE app.direction          AS ENUM ('inbound','outbound');
CREATE TYPE app.delivery_status    AS ENUM ('queued','sent','delivered','failed','received');
CREATE TYPE app.scan_status        AS ENUM ('pending','clean','infected');
CREATE TYPE app.form_stage         AS ENUM ('draft','in_review','live','archive');                         -- [E-20]
CREATE TYPE app.submission_status  AS ENUM ('draft','submitted','approved','returned');
CREATE TYPE app.event_status       AS ENUM ('scheduled','completed','cancelled','no_show');
CREATE TYPE app.attendee_response  AS ENUM ('needs_action','accepted','declined','tentative');
CREATE TYPE app.task_status        AS ENUM ('open','in_progress','completed','discarded');
CREATE TYPE app.priority           AS ENUM ('low','normal','high','urgent');
CREATE TYPE app.workflow_status    AS ENUM ('active','completed','cancelled');
CREATE TYPE app.step_status        AS ENUM ('not_started','in_progress','completed','skipped');

-- -------------------------------------------------------------------------------------
-- 2. Functions used by triggers.  The application user travels in the session variable
--    audit.user_id (name follows Case Commons' own pg_audit_log gem [E-3]); the value is a
--    membership.users.id.  After SET LOCAL has been used once in a session, the variable
--    reads '' (not NULL) outside the transaction, hence the nullif().
-- -------------------------------------------------------------------------------------
CREATE FUNCTION app.current_user_id() RETURNS uuid
LANGUAGE sql STABLE AS $$
  SELECT nullif(current_setting('audit.user_id', true), '')::uuid
$$;

CREATE FUNCTION app.touch_updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END $$;

-- -------------------------------------------------------------------------------------
-- 3. config: values an administrator configures (case type, status, role, county ...) [E-19]
-- -------------------------------------------------------------------------------------
CREATE TABLE membership.tenants (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  slug        public.citext NOT NULL UNIQUE,
  name        text NOT NULL,
  plan        app.plan_tier NOT NULL DEFAULT 'enterprise',
  region      text NOT NULL DEFAULT 'us' CHECK (region IN ('us','ca')),          -- [E-5]
  time_zone   text NOT NULL DEFAULT 'America/Indiana/Indianapolis',
  settings    jsonb NOT NULL DEFAULT '{}',
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE config.field_values (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id   uuid NOT NULL REFERENCES membership.tenants,
  field_key   text NOT NULL,          -- 'case.type', 'case.status', 'involvement.role', 'county' ...
  label       text NOT NULL,
  position    integer NOT NULL DEFAULT 0,
  active      boolean NOT NULL DEFAULT true,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, field_key, label)
);

-- Definitions of the dynamic fields whose values live in the custom_fields jsonb columns [E-19]
CREATE TABLE config.dynamic_fields (
  tenant_id   uuid NOT NULL REFERENCES membership.tenants,
  record_type app.record_type NOT NULL,
  field_key   text NOT NULL,
  label       text NOT NULL,
  data_type   text NOT NULL CHECK (data_type IN ('text','number','date','boolean','choice','multi_choice')),
  required    boolean NOT NULL DEFAULT false,
  sensitive   boolean NOT NULL DEFAULT false,
  options     text[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (tenant_id, record_type, field_key)
);

-- -------------------------------------------------------------------------------------
-- 4. membership
-- -------------------------------------------------------------------------------------
CREATE TABLE membership.users (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id        uuid NOT NULL REFERENCES membership.tenants,
  email            app.email_address NOT NULL,
  display_name     text NOT NULL,
  kind             app.user_kind NOT NULL DEFAULT 'staff',
  status           app.user_status NOT NULL DEFAULT 'invited',
  person_id        uuid,                                   -- FK added below (people.people)
  password_digest  text,                                   -- never leaves the database
  last_sign_in_at  timestamptz,
  last_sign_in_ip  inet,
  sign_in_count    integer NOT NULL DEFAULT 0,
  disabled_at      timestamptz,                            -- users are disabled, not deleted [E-14]
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, email)
);

CREATE TABLE membership.roles (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES membership.tenants,
  name         public.citext NOT NULL,                     -- 'Engage Supervisor', 'Intake Worker' ... [E-15]
  permissions  jsonb NOT NULL DEFAULT '{}',                -- {"engage":["view","edit"], ...}
  is_default   boolean NOT NULL DEFAULT false,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE membership.user_roles (
  user_id       uuid   NOT NULL REFERENCES membership.users ON DELETE CASCADE,
  role_id       bigint NOT NULL REFERENCES membership.roles ON DELETE CASCADE,
  granted_by_id uuid REFERENCES membership.users ON DELETE SET NULL,
  granted_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, role_id)
);

CREATE TABLE membership.teams (                            -- [E-16]
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   uuid NOT NULL REFERENCES membership.tenants,
  name        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE membership.team_users (
  team_id  bigint NOT NULL REFERENCES membership.teams ON DELETE CASCADE,
  user_id  uuid   NOT NULL REFERENCES membership.users ON DELETE CASCADE,
  added_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, user_id)
);

-- -------------------------------------------------------------------------------------
-- 5. people
-- -------------------------------------------------------------------------------------
CREATE TABLE people.people (
  id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id          uuid NOT NULL REFERENCES membership.tenants,
  first_name         text,
  middle_name        text,
  last_name          text NOT NULL,
  name_suffix        text,
  preferred_name     text,
  date_of_birth      date,
  dob_is_estimated   boolean NOT NULL DEFAULT false,
  date_of_death      date,
  ssn                app.ssn,
  gender             text,
  races              text[] NOT NULL DEFAULT '{}',
  hispanic_or_latino app.yes_no_unknown NOT NULL DEFAULT 'unknown',
  primary_language   text,
  is_veteran         boolean,
  is_restricted      boolean NOT NULL DEFAULT false,       -- confidential record
  merged_into_id     uuid REFERENCES people.people,        -- duplicate -> master [E-2]
  custom_fields      jsonb NOT NULL DEFAULT '{}',
  legacy_id          text,
  -- generated columns: NOT published by pgoutput before PostgreSQL 18, so a consumer must
  -- compute names from the base columns (verified on 15, see REPORT.md)
  full_name          text GENERATED ALWAYS AS
                       (coalesce(first_name || ' ', '') || last_name) STORED,
  display_name       text GENERATED ALWAYS AS
                       (coalesce(left(first_name, 1) || '. ', '') || last_name) STORED,
  search_vector      tsvector GENERATED ALWAYS AS
                       (to_tsvector('simple', coalesce(first_name,'') || ' ' || last_name
                          || ' ' || coalesce(preferred_name,''))) STORED,
  lock_version       integer NOT NULL DEFAULT 0,
  created_by_id      uuid REFERENCES membership.users,
  updated_by_id      uuid REFERENCES membership.users,
  created_at         timestamptz NOT NULL DEFAULT now(),
  updated_at         timestamptz NOT NULL DEFAULT now(),
  deleted_at         timestamptz,
  deleted_by_id      uuid REFERENCES membership.users,
  CHECK (merged_into_id IS DISTINCT FROM id),
  CHECK (date_of_death IS NULL OR date_of_birth IS NULL OR date_of_death >= date_of_birth)
);
CREATE INDEX ON people.people (tenant_id, last_name, first_name);
CREATE INDEX ON people.people USING gin (search_vector);
CREATE INDEX ON people.people (merged_into_id) WHERE merged_into_id IS NOT NULL;

ALTER TABLE membership.users
  ADD FOREIGN KEY (person_id) REFERENCES people.people ON DELETE SET NULL;

CREATE TABLE people.person_aliases (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person_id   uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  alias_type  text NOT NULL DEFAULT 'aka',
  first_name  text,
  last_name   text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people.person_identifiers (                   -- composite natural key
  person_id   uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  id_type     text NOT NULL CHECK (id_type IN ('medicaid','state_id','drivers_license','alien_number','court','school')),
  id_value    text NOT NULL,
  issuer      text,
  expires_on  date,
  PRIMARY KEY (person_id, id_type)
);

CREATE TABLE people.contact_points (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person_id   uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  kind        text NOT NULL CHECK (kind IN ('phone','email')),
  label       text NOT NULL DEFAULT 'home',
  value       public.citext NOT NULL,
  is_primary  boolean NOT NULL DEFAULT false,
  sms_consent boolean NOT NULL DEFAULT false,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);

-- Shared address rows: the address itself has no owner column (reverse hop) [E-24]
CREATE TABLE people.addresses (
  id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id      uuid NOT NULL REFERENCES membership.tenants,
  line_1         text,
  line_2         text,
  city           text,
  state          char(2),
  postal_code    text,
  county_id      uuid REFERENCES config.field_values,
  country        char(2) NOT NULL DEFAULT 'US',
  latitude       numeric(9,6),
  longitude      numeric(9,6),
  geocoded_at    timestamptz,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people.person_addresses (
  person_id    uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  address_id   uuid NOT NULL REFERENCES people.addresses ON DELETE RESTRICT,
  started_on   date NOT NULL DEFAULT CURRENT_DATE,
  ended_on     date,
  address_type text NOT NULL DEFAULT 'home',
  is_primary   boolean NOT NULL DEFAULT false,
  PRIMARY KEY (person_id, address_id, started_on)
);
CREATE INDEX ON people.person_addresses (address_id);

-- Casebook 2 stored relationship_types(strong_name, weak_name) and
-- relationships(type_id, strong_side_person_id, weak_side_person_id) [E-2]
CREATE TABLE people.relationship_types (
  id           smallint PRIMARY KEY,
  strong_name  text NOT NULL,        -- 'Parent'
  weak_name    text NOT NULL,        -- 'Child'
  is_legal     boolean NOT NULL DEFAULT false
);

CREATE TABLE people.relationships (
  id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id             uuid NOT NULL REFERENCES membership.tenants,
  relationship_type_id  smallint NOT NULL REFERENCES people.relationship_types,
  strong_side_person_id uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  weak_side_person_id   uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  started_on            date,
  ended_on              date,
  comments              text,
  created_by_id         uuid REFERENCES membership.users,
  updated_by_id         uuid REFERENCES membership.users,
  created_at            timestamptz NOT NULL DEFAULT now(),
  updated_at            timestamptz NOT NULL DEFAULT now(),
  deleted_at            timestamptz,
  deleted_by_id         uuid REFERENCES membership.users,
  CHECK (strong_side_person_id <> weak_side_person_id)
);
CREATE INDEX ON people.relationships (strong_side_person_id);
CREATE INDEX ON people.relationships (weak_side_person_id);
CREATE UNIQUE INDEX relationships_live_uq ON people.relationships
  (relationship_type_id, strong_side_person_id, weak_side_person_id)
  WHERE deleted_at IS NULL AND ended_on IS NULL;

CREATE TABLE people.education_records (                    -- [E-8]
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person_id     uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  school_name   text NOT NULL,
  grade_level   text,
  started_on    date,
  ended_on      date,
  has_iep       boolean,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people.employment_records (                   -- [E-8]
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person_id      uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  employer_name  text NOT NULL,
  job_title      text,
  monthly_income app.usd,
  started_on     date,
  ended_on       date,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people.health_conditions (                    -- HIPAA / 42 CFR Part 2 material
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person_id      uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  condition_name text NOT NULL,
  icd10_code     text,
  is_substance_use boolean NOT NULL DEFAULT false,
  diagnosed_on   date,
  resolved_on    date,
  comments       text,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE people.person_merges (
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id           uuid NOT NULL REFERENCES membership.tenants,
  master_person_id    uuid NOT NULL REFERENCES people.people,
  duplicate_person_id uuid NOT NULL REFERENCES people.people,
  merged_by_id        uuid REFERENCES membership.users,
  merged_at           timestamptz NOT NULL DEFAULT now(),
  reverted_by_id      uuid REFERENCES membership.users,
  reverted_at         timestamptz,
  moved_rows          jsonb NOT NULL DEFAULT '{}',         -- what to move back on revert
  CHECK (master_person_id <> duplicate_person_id)
);

-- -------------------------------------------------------------------------------------
-- 6. intake (the "Reports (Intake)" resource)
-- -------------------------------------------------------------------------------------
CREATE TABLE intake.reports (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id        uuid NOT NULL REFERENCES membership.tenants,
  report_number    bigint GENERATED BY DEFAULT AS IDENTITY UNIQUE,
  name             text NOT NULL,                          -- pre-filled by the system, editable [E-17]
  report_type      app.report_type NOT NULL,
  status           app.report_status NOT NULL DEFAULT 'draft',
  report_method_id uuid REFERENCES config.field_values,
  county_id        uuid REFERENCES config.field_values,
  reported_at      timestamptz NOT NULL DEFAULT now(),
  referred_by      text,
  narrative        text,                                   -- large, TOASTed
  provider_id      uuid,                                   -- FK added below
  custom_fields    jsonb NOT NULL DEFAULT '{}',
  lock_version     integer NOT NULL DEFAULT 0,
  created_by_id    uuid REFERENCES membership.users,
  updated_by_id    uuid REFERENCES membership.users,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  deleted_at       timestamptz,
  deleted_by_id    uuid REFERENCES membership.users
);
CREATE INDEX ON intake.reports (tenant_id, status, reported_at);

CREATE TABLE intake.report_people (
  id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  report_id     uuid NOT NULL REFERENCES intake.reports ON DELETE CASCADE,
  person_id     uuid NOT NULL REFERENCES people.people ON DELETE RESTRICT,
  roles         text[] NOT NULL DEFAULT '{}',              -- array of roles [E-24]
  is_reporter   boolean NOT NULL DEFAULT false,
  is_anonymous  boolean NOT NULL DEFAULT false,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  UNIQUE (report_id, person_id)
);
CREATE INDEX ON intake.report_people (person_id);

CREATE TABLE intake.incidents (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  report_id      uuid NOT NULL REFERENCES intake.reports ON DELETE CASCADE,
  occurred_on    date,
  location_type  text,
  address_id     uuid REFERENCES people.addresses,
  description    text,
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON intake.incidents (report_id);

CREATE TABLE intake.allegations (                          -- allegation -> incident -> report
  id                    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  incident_id           bigint NOT NULL REFERENCES intake.incidents ON DELETE CASCADE,
  victim_person_id      uuid NOT NULL REFERENCES people.people,
  perpetrator_person_id uuid REFERENCES people.people,
  allegation_types      text[] NOT NULL,
  finding               text,
  created_at            timestamptz NOT NULL DEFAULT now(),
  updated_at            timestamptz NOT NULL DEFAULT now(),
  UNIQUE (incident_id, victim_person_id, perpetrator_person_id)
);

-- -------------------------------------------------------------------------------------
-- 7. cases
-- -------------------------------------------------------------------------------------
CREATE TABLE cases.programs (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id       uuid NOT NULL REFERENCES membership.tenants,
  name            text NOT NULL,
  funding_source  text,
  active          boolean NOT NULL DEFAULT true,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE cases.cases (
  id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id         uuid NOT NULL REFERENCES membership.tenants,
  case_number       bigint GENERATED BY DEFAULT AS IDENTITY UNIQUE,
  name              text NOT NULL,                         -- typed by the worker, e.g. 'J. Sullivan' [E-10]
  case_type_id      uuid NOT NULL REFERENCES config.field_values,
  status_id         uuid NOT NULL REFERENCES config.field_values,
  program_id        bigint REFERENCES cases.programs,
  county_id         uuid REFERENCES config.field_values,
  source_report_id  uuid REFERENCES intake.reports ON DELETE SET NULL,
  opened_on         date NOT NULL DEFAULT CURRENT_DATE,
  closed_on         date,
  close_reason_id   uuid REFERENCES config.field_values,
  is_restricted     boolean NOT NULL DEFAULT false,
  custom_fields     jsonb NOT NULL DEFAULT '{}',
  legacy_id         text,
  last_activity_at  timestamptz,                           -- maintained by trigger, no audit meaning
  lock_version      integer NOT NULL DEFAULT 0,
  created_by_id     uuid REFERENCES membership.users,
  updated_by_id     uuid REFERENCES membership.users,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  deleted_at        timestamptz,
  deleted_by_id     uuid REFERENCES membership.users,
  CHECK (closed_on IS NULL OR closed_on >= opened_on)
);
CREATE INDEX ON cases.cases (tenant_id, status_id);
CREATE INDEX ON cases.cases (source_report_id);

CREATE TABLE cases.case_goals (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  case_id      uuid NOT NULL REFERENCES cases.cases ON DELETE CASCADE,
  description  text NOT NULL,
  target_on    date,
  achieved_on  date,
  position     integer NOT NULL DEFAULT 0,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON cases.case_goals (case_id);

CREATE TABLE cases.case_involvements (                     -- people in a case [E-7][E-10]
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  case_id             uuid NOT NULL REFERENCES cases.cases ON DELETE CASCADE,
  person_id           uuid NOT NULL REFERENCES people.people ON DELETE RESTRICT,
  involvement_type_id uuid NOT NULL REFERENCES config.field_values,
  role_id             uuid NOT NULL REFERENCES config.field_values,
  started_on          date NOT NULL DEFAULT CURRENT_DATE,
  ended_on            date,
  end_reason          text,
  created_by_id       uuid REFERENCES membership.users,
  updated_by_id       uuid REFERENCES membership.users,
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  deleted_at          timestamptz,
  deleted_by_id       uuid REFERENCES membership.users
);
CREATE INDEX ON cases.case_involvements (case_id);
CREATE INDEX ON cases.case_involvements (person_id);
CREATE UNIQUE INDEX case_involvements_live_uq ON cases.case_involvements
  (case_id, person_id, involvement_type_id) WHERE ended_on IS NULL AND deleted_at IS NULL;

CREATE TABLE cases.case_status_history (                   -- derived by trigger: a copy of what the case update says
  case_id      uuid NOT NULL REFERENCES cases.cases ON DELETE CASCADE,
  seq          integer NOT NULL,
  status_id    uuid NOT NULL REFERENCES config.field_values,
  changed_by_id uuid,
  changed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (case_id, seq)
);

CREATE TABLE intake.screening_decisions (
  id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  report_id     uuid NOT NULL UNIQUE REFERENCES intake.reports ON DELETE CASCADE,
  outcome       app.screening_outcome NOT NULL,
  reason_id     uuid REFERENCES config.field_values,
  decided_at    timestamptz NOT NULL DEFAULT now(),
  decided_by_id uuid REFERENCES membership.users,
  case_id       uuid REFERENCES cases.cases ON DELETE SET NULL,
  comments      text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);

-- -------------------------------------------------------------------------------------
-- 8. providers
-- -------------------------------------------------------------------------------------
CREATE TABLE providers.providers (
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id           uuid NOT NULL REFERENCES membership.tenants,
  name                text NOT NULL,
  provider_type_id    uuid NOT NULL REFERENCES config.field_values,
  provider_subtype_id uuid REFERENCES config.field_values,
  status              app.provider_status NOT NULL DEFAULT 'applicant',
  parent_provider_id  uuid REFERENCES providers.providers, -- parent organization [E-18]
  is_parent_org       boolean NOT NULL DEFAULT false,
  ein                 text,                                -- an individual's SSN may stand here
  organizational_id   text,
  phone               app.phone_number,
  phone_extension     text,
  contact_person_id   uuid REFERENCES people.people,
  primary_location_id uuid,                                -- bi-directional with locations [E-6]; FK below
  under_contract      boolean NOT NULL DEFAULT false,
  accredited          boolean NOT NULL DEFAULT false,
  capacity            integer CHECK (capacity >= 0),
  custom_fields       jsonb NOT NULL DEFAULT '{}',
  lock_version        integer NOT NULL DEFAULT 0,
  created_by_id       uuid REFERENCES membership.users,
  updated_by_id       uuid REFERENCES membership.users,
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  deleted_at          timestamptz,
  deleted_by_id       uuid REFERENCES membership.users,
  CHECK (parent_provider_id IS DISTINCT FROM id)
);
CREATE INDEX ON providers.providers (tenant_id, name);
ALTER TABLE intake.reports ADD FOREIGN KEY (provider_id) REFERENCES providers.providers ON DELETE SET NULL;

CREATE TABLE providers.locations (
  id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  provider_id uuid NOT NULL REFERENCES providers.providers ON DELETE CASCADE,
  address_id  uuid NOT NULL REFERENCES people.addresses,
  name        text,
  notes       text,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON providers.locations (provider_id);
CREATE INDEX ON providers.locations (address_id);
ALTER TABLE providers.providers ADD FOREIGN KEY (primary_location_id)
  REFERENCES providers.locations ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE providers.licenses (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  provider_id     uuid NOT NULL REFERENCES providers.providers ON DELETE CASCADE,
  license_type_id uuid NOT NULL REFERENCES config.field_values,
  license_number  text,
  status          app.license_status NOT NULL DEFAULT 'pending',
  effective_on    date,
  expires_on      date,
  capacity        integer,
  age_min         smallint,
  age_max         smallint,
  validity        daterange GENERATED ALWAYS AS (daterange(effective_on, expires_on, '[]')) STORED,
  created_by_id   uuid REFERENCES membership.users,
  updated_by_id   uuid REFERENCES membership.users,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON providers.licenses (provider_id);

CREATE TABLE providers.provider_staff (
  provider_id uuid NOT NULL REFERENCES providers.providers ON DELETE CASCADE,
  person_id   uuid NOT NULL REFERENCES people.people ON DELETE RESTRICT,
  started_on  date NOT NULL DEFAULT CURRENT_DATE,
  ended_on    date,
  title       text,
  background_check_on date,
  PRIMARY KEY (provider_id, person_id, started_on)
);

CREATE TABLE providers.visits (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider_id   uuid NOT NULL REFERENCES providers.providers ON DELETE CASCADE,
  location_id   uuid REFERENCES providers.locations ON DELETE SET NULL,
  visit_type_id uuid REFERENCES config.field_values,
  visited_on    date NOT NULL,
  findings      text,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now()
);

-- -------------------------------------------------------------------------------------
-- 9. services
-- -------------------------------------------------------------------------------------
CREATE TABLE services.service_types (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES membership.tenants,
  name         text NOT NULL,
  category     text,
  default_unit text,
  active       boolean NOT NULL DEFAULT true,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE services.service_offerings (                  -- [E-13]
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id           uuid NOT NULL REFERENCES membership.tenants,
  provider_id         uuid REFERENCES providers.providers ON DELETE CASCADE,  -- NULL = in-house
  service_type_id     bigint NOT NULL REFERENCES services.service_types,
  name                text NOT NULL,
  description         text,
  languages           text[] NOT NULL DEFAULT '{}',
  person_providing_id uuid REFERENCES people.people ON DELETE SET NULL,
  unit_of_delivery    text,                                -- 'Beds', 'Class', 'Hour' ...
  unit_cost           app.usd,
  session_starts_at   time,
  session_length      interval,
  roster_enabled      boolean NOT NULL DEFAULT false,
  active              boolean NOT NULL DEFAULT true,       -- third style of soft delete
  created_by_id       uuid REFERENCES membership.users,
  updated_by_id       uuid REFERENCES membership.users,
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON services.service_offerings (provider_id);

-- An enrollment of kind 'provider_offering' may have no case at all [E-11]: its record is then
-- the provider of the offering.
CREATE TABLE services.service_enrollments (
  id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id           uuid NOT NULL REFERENCES membership.tenants,
  kind                app.enrollment_kind NOT NULL,
  case_id             uuid REFERENCES cases.cases ON DELETE CASCADE,
  person_id           uuid NOT NULL REFERENCES people.people ON DELETE RESTRICT,
  service_type_id     bigint NOT NULL REFERENCES services.service_types,
  service_offering_id uuid REFERENCES services.service_offerings ON DELETE RESTRICT,
  external_provider_name text,
  status              app.enrollment_status NOT NULL DEFAULT 'pending',
  starts_on           date,
  ends_on             date,
  units               app.units,
  unit_cost           app.usd,
  total_cost          app.usd,                             -- stored, not generated: must reach the WAL consumer
  outcome             text,
  comments            text,
  custom_fields       jsonb NOT NULL DEFAULT '{}',
  lock_version        integer NOT NULL DEFAULT 0,
  created_by_id       uuid REFERENCES membership.users,
  updated_by_id       uuid REFERENCES membership.users,
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  deleted_at          timestamptz,
  deleted_by_id       uuid REFERENCES membership.users,
  CHECK (case_id IS NOT NULL OR service_offering_id IS NOT NULL),
  CHECK ((kind = 'provider_offering') = (service_offering_id IS NOT NULL)),
  CHECK (ends_on IS NULL OR starts_on IS NULL OR ends_on >= starts_on)
);
CREATE INDEX ON services.service_enrollments (case_id);
CREATE INDEX ON services.service_enrollments (person_id);
CREATE INDEX ON services.service_enrollments (service_offering_id);

CREATE TABLE services.service_interactions (               -- "Service Notes"
  id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  service_enrollment_id uuid NOT NULL REFERENCES services.service_enrollments ON DELETE CASCADE,
  occurred_at           timestamptz NOT NULL,
  ended_at              timestamptz,
  duration_minutes      integer GENERATED ALWAYS AS
                          ((extract(epoch FROM (ended_at - occurred_at)) / 60)::integer) STORED,
  units_delivered       app.units,
  cost                  app.usd,
  subject               text,
  body                  text,                              -- large, TOASTed
  provided_by_person_id uuid REFERENCES people.people ON DELETE SET NULL,
  created_by_id         uuid REFERENCES membership.users,
  updated_by_id         uuid REFERENCES membership.users,
  created_at            timestamptz NOT NULL DEFAULT now(),
  updated_at            timestamptz NOT NULL DEFAULT now(),
  deleted_at            timestamptz,
  deleted_by_id         uuid REFERENCES membership.users,
  CHECK (ended_at IS NULL OR ended_at >= occurred_at)
);
CREATE INDEX ON services.service_interactions (service_enrollment_id);

CREATE TABLE services.service_interaction_people (         -- roster attendance
  service_interaction_id uuid NOT NULL REFERENCES services.service_interactions ON DELETE CASCADE,
  person_id              uuid NOT NULL REFERENCES people.people ON DELETE RESTRICT,
  attendance             app.attendance NOT NULL DEFAULT 'attended',
  units                  app.units,
  PRIMARY KEY (service_interaction_id, person_id)
);

CREATE TABLE services.service_interaction_links (          -- one note shown on further enrollments [E-12]
  service_interaction_id uuid NOT NULL REFERENCES services.service_interactions ON DELETE CASCADE,
  service_enrollment_id  uuid NOT NULL REFERENCES services.service_enrollments ON DELETE CASCADE,
  linked_automatically   boolean NOT NULL DEFAULT true,
  PRIMARY KEY (service_interaction_id, service_enrollment_id)
);

-- -------------------------------------------------------------------------------------
-- 10. membership, part 2: assignments and access lists (polymorphic) [E-6][E-16]
-- -------------------------------------------------------------------------------------
CREATE TABLE membership.assignments (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id       uuid NOT NULL REFERENCES membership.tenants,
  assignable_type app.record_type NOT NULL,
  assignable_id   uuid NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  UNIQUE (assignable_type, assignable_id)
);

CREATE TABLE membership.assignment_users (                 -- assignment_users -> assignments -> record
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  assignment_id bigint NOT NULL REFERENCES membership.assignments ON DELETE CASCADE,
  user_id       uuid NOT NULL REFERENCES membership.users,
  duty          text NOT NULL DEFAULT 'primary' CHECK (duty IN ('primary','secondary','supervisor')),
  assigned_at   timestamptz NOT NULL DEFAULT now(),
  unassigned_at timestamptz,
  assigned_by_id uuid REFERENCES membership.users,
  updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX assignment_users_live_uq ON membership.assignment_users
  (assignment_id, user_id) WHERE unassigned_at IS NULL;
CREATE INDEX ON membership.assignment_users (user_id);

CREATE TABLE membership.record_access (                    -- who may see / edit a record
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  record_type app.record_type NOT NULL,
  record_id   uuid NOT NULL,
  user_id     uuid REFERENCES membership.users ON DELETE CASCADE,
  team_id     bigint REFERENCES membership.teams ON DELETE CASCADE,
  can_edit    boolean NOT NULL DEFAULT false,
  granted_by_id uuid REFERENCES membership.users,
  granted_at  timestamptz NOT NULL DEFAULT now(),
  CHECK (num_nonnulls(user_id, team_id) = 1)
);
CREATE INDEX ON membership.record_access (record_type, record_id);

-- -------------------------------------------------------------------------------------
-- 11. content
-- -------------------------------------------------------------------------------------
CREATE TABLE content.notes (                               -- style S2
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id       uuid NOT NULL REFERENCES membership.tenants,
  notable_type    app.record_type NOT NULL,
  notable_id      uuid NOT NULL,
  note_type       app.note_type NOT NULL DEFAULT 'general',
  subject         text NOT NULL,
  body            text NOT NULL,                           -- large, TOASTed
  contact_at      timestamptz,
  contact_method  text,
  tags            text[] NOT NULL DEFAULT '{}',
  is_confidential boolean NOT NULL DEFAULT false,
  locked_at       timestamptz,                             -- note locking [E-12]
  lock_version    integer NOT NULL DEFAULT 0,
  created_by_id   uuid REFERENCES membership.users,
  updated_by_id   uuid REFERENCES membership.users,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  deleted_by_id   uuid REFERENCES membership.users
);
CREATE INDEX ON content.notes (notable_type, notable_id, created_at DESC);

CREATE TABLE content.note_people (                         -- people involved in a note
  note_id   uuid NOT NULL REFERENCES content.notes ON DELETE CASCADE,
  person_id uuid NOT NULL REFERENCES people.people ON DELETE CASCADE,
  PRIMARY KEY (note_id, person_id)
);

CREATE TABLE content.attachments (                         -- style S3
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id       uuid NOT NULL REFERENCES membership.tenants,
  attachable_type text NOT NULL CHECK (attachable_type IN
                    ('case','report','provider','person','note','service_interaction','form_submission','email')),
  attachable_id   uuid NOT NULL,
  file_name       text NOT NULL,
  content_type    text NOT NULL,
  byte_size       bigint NOT NULL CHECK (byte_size >= 0),
  sha256          bytea NOT NULL CHECK (octet_length(sha256) = 32),
  storage_key     text NOT NULL UNIQUE,                    -- object-store key, not shown to admins
  scan_status     app.scan_status NOT NULL DEFAULT 'pending',
  category_id     uuid REFERENCES config.field_values,
  description     text,
  uploaded_by_id  uuid REFERENCES membership.users,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  deleted_by_id   uuid REFERENCES membership.users
);
CREATE INDEX ON content.attachments (attachable_type, attachable_id);

CREATE TABLE content.resource_emails (                     -- "Resource Email", created by the backend (seed)
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   uuid NOT NULL REFERENCES membership.tenants,
  record_type app.record_type NOT NULL,
  record_id   uuid NOT NULL,
  address     app.email_address NOT NULL UNIQUE,
  enabled     boolean NOT NULL DEFAULT true,               -- a user may disable / enable it [E-21]
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  UNIQUE (record_type, record_id)
);

CREATE TABLE content.emails (
  id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id      uuid NOT NULL REFERENCES membership.tenants,
  record_type    app.record_type NOT NULL,
  record_id      uuid NOT NULL,
  thread_id      uuid,
  direction      app.direction NOT NULL,
  message_id     text,
  from_address   app.email_address NOT NULL,
  to_addresses   public.citext[] NOT NULL,
  cc_addresses   public.citext[] NOT NULL DEFAULT '{}',
  subject        text,
  body           text,
  status         app.delivery_status NOT NULL DEFAULT 'queued',
  sent_by_id     uuid REFERENCES membership.users,         -- NULL for inbound
  sent_at        timestamptz NOT NULL DEFAULT now(),
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  deleted_at     timestamptz,
  deleted_by_id  uuid REFERENCES membership.users
);
CREATE INDEX ON content.emails (record_type, record_id);

-- Partitioned by month; composite primary key because the partition key must be in it.
CREATE SEQUENCE content.sms_messages_id_seq AS bigint;
CREATE TABLE content.sms_messages (
  id                  bigint NOT NULL DEFAULT nextval('content.sms_messages_id_seq'),
  sent_at             timestamptz NOT NULL DEFAULT now(),
  tenant_id           uuid NOT NULL REFERENCES membership.tenants,
  record_type         app.record_type NOT NULL,
  record_id           uuid NOT NULL,
  person_id           uuid REFERENCES people.people,
  direction           app.direction NOT NULL,
  from_number         app.phone_number NOT NULL,
  to_number           app.phone_number NOT NULL,
  body                text NOT NULL,
  segments            smallint NOT NULL DEFAULT 1,
  carrier_cost        numeric(8,5),
  status              app.delivery_status NOT NULL DEFAULT 'queued',
  carrier_message_id  text,
  sent_by_id          uuid REFERENCES membership.users,
  delivered_at        timestamptz,
  updated_at          timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (id, sent_at)
) PARTITION BY RANGE (sent_at);
ALTER SEQUENCE content.sms_messages_id_seq OWNED BY content.sms_messages.id;
CREATE INDEX ON content.sms_messages (record_type, record_id, sent_at);
CREATE TABLE content.sms_messages_default PARTITION OF content.sms_messages DEFAULT;

CREATE FUNCTION app.ensure_sms_partition(p_month date) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  m date := date_trunc('month', p_month)::date;
  n text := format('sms_messages_%s', to_char(m, 'YYYY_MM'));
BEGIN
  IF to_regclass('content.' || n) IS NULL THEN
    EXECUTE format('CREATE TABLE content.%I PARTITION OF content.sms_messages FOR VALUES FROM (%L) TO (%L)',
                   n, m::timestamp AT TIME ZONE 'UTC', (m + interval '1 month')::timestamp AT TIME ZONE 'UTC');
  END IF;
  RETURN n;
END $$;
-- a fixed year, so that partition names are the same on every load
SELECT count(app.ensure_sms_partition(d::date))
FROM generate_series(DATE '2026-01-01', DATE '2026-12-01', interval '1 month') AS d;

CREATE TABLE content.form_templates (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   uuid NOT NULL REFERENCES membership.tenants,
  name        text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE content.form_versions (                       -- composite key [E-20]
  form_template_id bigint NOT NULL REFERENCES content.form_templates ON DELETE CASCADE,
  version          integer NOT NULL CHECK (version > 0),
  stage            app.form_stage NOT NULL DEFAULT 'draft',
  definition       jsonb NOT NULL,                         -- Form.io-like component tree
  release_notes    text,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (form_template_id, version)
);

CREATE TABLE content.form_submissions (                    -- the "Forms" resource; style S4
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id        uuid NOT NULL REFERENCES membership.tenants,
  form_template_id bigint NOT NULL,
  form_version     integer NOT NULL,
  case_id          uuid REFERENCES cases.cases ON DELETE CASCADE,
  report_id        uuid REFERENCES intake.reports ON DELETE CASCADE,
  provider_id      uuid REFERENCES providers.providers ON DELETE CASCADE,
  person_id        uuid REFERENCES people.people ON DELETE CASCADE,
  status           app.submission_status NOT NULL DEFAULT 'draft',
  submitted_at     timestamptz,
  submitted_by_id  uuid REFERENCES membership.users,
  created_by_id    uuid REFERENCES membership.users,
  updated_by_id    uuid REFERENCES membership.users,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  deleted_at       timestamptz,
  deleted_by_id    uuid REFERENCES membership.users,
  FOREIGN KEY (form_template_id, form_version) REFERENCES content.form_versions,
  CHECK (num_nonnulls(case_id, report_id, provider_id, person_id) = 1)
);
CREATE INDEX ON content.form_submissions (case_id);
CREATE INDEX ON content.form_submissions (report_id);
CREATE INDEX ON content.form_submissions (provider_id);
CREATE INDEX ON content.form_submissions (person_id);

CREATE TABLE content.form_answers (                        -- form_answers -> forms -> record; 3-column key
  form_submission_id uuid NOT NULL REFERENCES content.form_submissions ON DELETE CASCADE,
  field_key          text NOT NULL,
  ordinal            smallint NOT NULL DEFAULT 0,          -- repeating groups
  question_label     text NOT NULL,
  answer             jsonb,
  answered_at        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (form_submission_id, field_key, ordinal)
);

CREATE TABLE content.events (                              -- "Calendar Events (Meetings)"; style S4
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id       uuid NOT NULL REFERENCES membership.tenants,
  case_id         uuid REFERENCES cases.cases ON DELETE CASCADE,
  report_id       uuid REFERENCES intake.reports ON DELETE CASCADE,
  provider_id     uuid REFERENCES providers.providers ON DELETE CASCADE,
  person_id       uuid REFERENCES people.people ON DELETE CASCADE,
  meeting_type_id uuid REFERENCES config.field_values,
  title           text NOT NULL,
  agenda          text,
  location        text,
  starts_at       timestamptz NOT NULL,
  ends_at         timestamptz NOT NULL,
  all_day         boolean NOT NULL DEFAULT false,
  recurrence_rule text,
  reminder_minutes integer[] NOT NULL DEFAULT '{30}',
  status          app.event_status NOT NULL DEFAULT 'scheduled',
  organizer_id    uuid REFERENCES membership.users,
  external_calendar_id text,
  external_synced_at   timestamptz,
  created_by_id   uuid REFERENCES membership.users,
  updated_by_id   uuid REFERENCES membership.users,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  deleted_at      timestamptz,
  deleted_by_id   uuid REFERENCES membership.users,
  CHECK (num_nonnulls(case_id, report_id, provider_id, person_id) = 1),
  CHECK (ends_at >= starts_at)
);
CREATE INDEX ON content.events (case_id);
CREATE INDEX ON content.events (report_id);
CREATE INDEX ON content.events (provider_id);
CREATE INDEX ON content.events (person_id);

CREATE TABLE content.event_attendees (                     -- event_attendees -> events -> record
  event_id       uuid NOT NULL REFERENCES content.events ON DELETE CASCADE,
  attendee_no    smallint NOT NULL,
  user_id        uuid REFERENCES membership.users ON DELETE CASCADE,
  person_id      uuid REFERENCES people.people ON DELETE CASCADE,
  external_email app.email_address,
  response       app.attendee_response NOT NULL DEFAULT 'needs_action',
  attended       boolean,
  PRIMARY KEY (event_id, attendee_no),
  CHECK (num_nonnulls(user_id, person_id, external_email) = 1)
);

-- -------------------------------------------------------------------------------------
-- 12. tasks and workflows [E-22]
-- -------------------------------------------------------------------------------------
CREATE TABLE tasks.workflow_templates (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id     uuid NOT NULL REFERENCES membership.tenants,
  name          text NOT NULL,
  record_type   app.record_type NOT NULL,
  start_trigger jsonb,                                     -- {"field":"license.status","equals":"expired"}
  active        boolean NOT NULL DEFAULT true,
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);

CREATE TABLE tasks.workflow_template_steps (
  workflow_template_id bigint NOT NULL REFERENCES tasks.workflow_templates ON DELETE CASCADE,
  step_no              smallint NOT NULL,
  name                 text NOT NULL,
  due_in_days          integer,
  PRIMARY KEY (workflow_template_id, step_no)
);

CREATE TABLE tasks.workflows (                             -- polymorphic pair
  id                   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id            uuid NOT NULL REFERENCES membership.tenants,
  workflow_template_id bigint NOT NULL REFERENCES tasks.workflow_templates,
  subject_type         app.record_type NOT NULL,
  subject_id           uuid NOT NULL,
  status               app.workflow_status NOT NULL DEFAULT 'active',
  started_at           timestamptz NOT NULL DEFAULT now(),
  started_by_id        uuid REFERENCES membership.users,   -- NULL = started by a data trigger
  completed_at         timestamptz,
  created_at           timestamptz NOT NULL DEFAULT now(),
  updated_at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON tasks.workflows (subject_type, subject_id);

CREATE TABLE tasks.workflow_steps (                        -- workflow_steps -> workflows -> record
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  workflow_id      uuid NOT NULL REFERENCES tasks.workflows ON DELETE CASCADE,
  step_no          smallint NOT NULL,
  name             text NOT NULL,
  status           app.step_status NOT NULL DEFAULT 'not_started',
  assignee_user_id uuid REFERENCES membership.users,
  due_on           date,
  completed_at     timestamptz,
  completed_by_id  uuid REFERENCES membership.users,       -- NULL = completed by the system
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  UNIQUE (workflow_id, step_no)
);

CREATE TABLE tasks.tasks (                                 -- style S5, bigint key
  id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id        uuid NOT NULL REFERENCES membership.tenants,
  case_id          uuid REFERENCES cases.cases ON DELETE CASCADE,
  report_id        uuid REFERENCES intake.reports ON DELETE CASCADE,
  provider_id      uuid REFERENCES providers.providers ON DELETE CASCADE,
  person_id        uuid REFERENCES people.people ON DELETE CASCADE,
  workflow_step_id uuid REFERENCES tasks.workflow_steps ON DELETE CASCADE,
  title            text NOT NULL,
  description      text,
  status           app.task_status NOT NULL DEFAULT 'open', -- 'discarded' = soft delete by status
  priority         app.priority NOT NULL DEFAULT 'normal',
  due_on           date,
  recurrence_rule  text,
  assignee_user_id uuid REFERENCES membership.users,
  completed_at     timestamptz,
  completed_by_id  uuid REFERENCES membership.users,
  created_by_id    uuid REFERENCES membership.users,
  updated_by_id    uuid REFERENCES membership.users,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now(),
  CHECK (num_nonnulls(case_id, report_id, provider_id, person_id, workflow_step_id) = 1)
);
CREATE INDEX ON tasks.tasks (case_id);
CREATE INDEX ON tasks.tasks (report_id);
CREATE INDEX ON tasks.tasks (provider_id);
CREATE INDEX ON tasks.tasks (person_id);
CREATE INDEX ON tasks.tasks (workflow_step_id);
CREATE INDEX ON tasks.tasks (assignee_user_id, status);

CREATE TABLE tasks.task_checklist_items (
  task_id bigint NOT NULL REFERENCES tasks.tasks ON DELETE CASCADE,
  item_no smallint NOT NULL,
  label   text NOT NULL,
  done    boolean NOT NULL DEFAULT false,
  PRIMARY KEY (task_id, item_no)
);

-- -------------------------------------------------------------------------------------
-- 13. ops: written all day, never an audit entry under a record (export_jobs is a signal
--     for the irregularity detector: reads leave no trace in the WAL, an export job does)
-- -------------------------------------------------------------------------------------
CREATE TABLE ops.schema_migrations (version text PRIMARY KEY);
CREATE TABLE ops.user_sessions (
  id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id      uuid NOT NULL REFERENCES membership.users ON DELETE CASCADE,
  token_digest bytea NOT NULL,
  ip           inet,
  created_at   timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ops.notifications (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  user_id    uuid NOT NULL REFERENCES membership.users ON DELETE CASCADE,
  kind       text NOT NULL,
  payload    jsonb NOT NULL DEFAULT '{}',
  read_at    timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ops.background_jobs (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue      text NOT NULL,
  args       jsonb NOT NULL,
  run_at     timestamptz NOT NULL DEFAULT now(),
  attempts   smallint NOT NULL DEFAULT 0,
  last_error text
);
CREATE TABLE ops.export_jobs (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id    uuid NOT NULL REFERENCES membership.tenants,
  user_id      uuid NOT NULL REFERENCES membership.users,
  dataset      text NOT NULL,                              -- 'people', 'case_involvements' ... [E-11]
  filters      jsonb NOT NULL DEFAULT '{}',
  row_count    integer,
  requested_at timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz
);
CREATE TABLE ops.import_rows (                             -- staging of the bulk import tool, <= 1,000 rows [E-23]
  import_id  uuid NOT NULL,
  row_no     integer NOT NULL,
  sheet      text NOT NULL,
  data       jsonb NOT NULL,
  error      text,
  PRIMARY KEY (import_id, sheet, row_no)
);

-- -------------------------------------------------------------------------------------
-- 13b. further foreign-key indexes (so that a hard delete does not scan)
-- -------------------------------------------------------------------------------------
CREATE INDEX ON intake.screening_decisions (case_id);
CREATE INDEX ON intake.allegations (victim_person_id);
CREATE INDEX ON intake.allegations (perpetrator_person_id);
CREATE INDEX ON content.note_people (person_id);
CREATE INDEX ON content.event_attendees (person_id);
CREATE INDEX ON services.service_interaction_people (person_id);
CREATE INDEX ON services.service_interaction_links (service_enrollment_id);
CREATE INDEX ON people.person_aliases (person_id);
CREATE INDEX ON people.contact_points (person_id);
CREATE INDEX ON people.education_records (person_id);
CREATE INDEX ON people.employment_records (person_id);
CREATE INDEX ON people.health_conditions (person_id);
CREATE INDEX ON people.person_merges (duplicate_person_id);
CREATE INDEX ON providers.visits (provider_id);
CREATE INDEX ON providers.provider_staff (person_id);

-- -------------------------------------------------------------------------------------
-- 14. Triggers
-- -------------------------------------------------------------------------------------
-- 14a. updated_at on every table that has it (also fires for no-op saves, which therefore
--      still reach the WAL as an update of updated_at alone)
DO $$
DECLARE r record;
BEGIN
  FOR r IN
    SELECT c.oid::regclass AS tbl
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'updated_at' AND NOT a.attisdropped
    WHERE n.nspname IN ('config','membership','people','intake','cases','providers','services','content','tasks')
      AND c.relkind IN ('r','p') AND NOT c.relispartition
    ORDER BY 1
  LOOP
    EXECUTE format('CREATE TRIGGER touch_updated_at BEFORE UPDATE ON %s
                    FOR EACH ROW EXECUTE FUNCTION app.touch_updated_at()', r.tbl);
  END LOOP;
END $$;

-- 14b. Resource Email: created by the backend together with each record (seed text)
CREATE FUNCTION app.create_resource_email() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO content.resource_emails (tenant_id, record_type, record_id, address)
  VALUES (NEW.tenant_id, TG_ARGV[0]::app.record_type, NEW.id,
          TG_ARGV[0] || '-' || replace(NEW.id::text, '-', '') || '@records.casebook.example');
  RETURN NULL;
END $$;
CREATE TRIGGER create_resource_email AFTER INSERT ON cases.cases
  FOR EACH ROW EXECUTE FUNCTION app.create_resource_email('case');
CREATE TRIGGER create_resource_email AFTER INSERT ON intake.reports
  FOR EACH ROW EXECUTE FUNCTION app.create_resource_email('report');
CREATE TRIGGER create_resource_email AFTER INSERT ON providers.providers
  FOR EACH ROW EXECUTE FUNCTION app.create_resource_email('provider');
CREATE TRIGGER create_resource_email AFTER INSERT ON people.people
  FOR EACH ROW EXECUTE FUNCTION app.create_resource_email('person');

-- 14c. cases.last_activity_at follows notes: an update of cases.cases nobody made
CREATE FUNCTION app.touch_case_activity() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.notable_type = 'case' THEN
    UPDATE cases.cases SET last_activity_at = clock_timestamp() WHERE id = NEW.notable_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER touch_case_activity AFTER INSERT ON content.notes
  FOR EACH ROW EXECUTE FUNCTION app.touch_case_activity();

-- 14d. case status history, derived
CREATE FUNCTION app.log_case_status() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO cases.case_status_history (case_id, seq, status_id, changed_by_id)
  SELECT NEW.id, coalesce(max(seq), 0) + 1, NEW.status_id, app.current_user_id()
  FROM cases.case_status_history WHERE case_id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER log_case_status_ins AFTER INSERT ON cases.cases
  FOR EACH ROW EXECUTE FUNCTION app.log_case_status();
CREATE TRIGGER log_case_status_upd AFTER UPDATE OF status_id ON cases.cases
  FOR EACH ROW WHEN (OLD.status_id IS DISTINCT FROM NEW.status_id)
  EXECUTE FUNCTION app.log_case_status();

-- 14e. hard delete of a record removes its polymorphic children, which no foreign key can do
CREATE FUNCTION app.delete_polymorphic_children() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE t app.record_type := TG_ARGV[0]::app.record_type;
BEGIN
  DELETE FROM content.notes            WHERE notable_type = t    AND notable_id = OLD.id;
  DELETE FROM content.attachments      WHERE attachable_type = t::text AND attachable_id = OLD.id;
  DELETE FROM content.emails           WHERE record_type = t     AND record_id = OLD.id;
  DELETE FROM content.sms_messages     WHERE record_type = t     AND record_id = OLD.id;
  DELETE FROM content.resource_emails  WHERE record_type = t     AND record_id = OLD.id;
  DELETE FROM tasks.workflows          WHERE subject_type = t    AND subject_id = OLD.id;
  DELETE FROM membership.assignments   WHERE assignable_type = t AND assignable_id = OLD.id;
  DELETE FROM membership.record_access WHERE record_type = t     AND record_id = OLD.id;
  RETURN NULL;
END $$;
CREATE TRIGGER delete_polymorphic_children AFTER DELETE ON cases.cases
  FOR EACH ROW EXECUTE FUNCTION app.delete_polymorphic_children('case');
CREATE TRIGGER delete_polymorphic_children AFTER DELETE ON intake.reports
  FOR EACH ROW EXECUTE FUNCTION app.delete_polymorphic_children('report');
CREATE TRIGGER delete_polymorphic_children AFTER DELETE ON providers.providers
  FOR EACH ROW EXECUTE FUNCTION app.delete_polymorphic_children('provider');
CREATE TRIGGER delete_polymorphic_children AFTER DELETE ON people.people
  FOR EACH ROW EXECUTE FUNCTION app.delete_polymorphic_children('person');

CREATE FUNCTION app.delete_child_attachments() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM content.attachments WHERE attachable_type = TG_ARGV[0] AND attachable_id = OLD.id;
  RETURN NULL;
END $$;
CREATE TRIGGER delete_child_attachments AFTER DELETE ON content.notes
  FOR EACH ROW EXECUTE FUNCTION app.delete_child_attachments('note');
CREATE TRIGGER delete_child_attachments AFTER DELETE ON services.service_interactions
  FOR EACH ROW EXECUTE FUNCTION app.delete_child_attachments('service_interaction');
CREATE TRIGGER delete_child_attachments AFTER DELETE ON content.form_submissions
  FOR EACH ROW EXECUTE FUNCTION app.delete_child_attachments('form_submission');
CREATE TRIGGER delete_child_attachments AFTER DELETE ON content.emails
  FOR EACH ROW EXECUTE FUNCTION app.delete_child_attachments('email');

-- -------------------------------------------------------------------------------------
-- 15. Reference rows shared by all tenants
-- -------------------------------------------------------------------------------------
INSERT INTO people.relationship_types (id, strong_name, weak_name, is_legal) VALUES
  (1, 'Parent', 'Child', true), (2, 'Legal guardian', 'Ward', true), (3, 'Sibling', 'Sibling', false),
  (4, 'Spouse', 'Spouse', true), (5, 'Grandparent', 'Grandchild', false), (6, 'Caregiver', 'Care recipient', false),
  (7, 'Foster parent', 'Foster child', true), (8, 'Friend', 'Friend', false);
INSERT INTO ops.schema_migrations VALUES ('20260101000000');
