-- Three tables of twelve columns that differ only in what audit asks of the primary.
create table bench.plain (
  id int primary key, tenant_id uuid not null, case_id uuid not null, status text not null, units numeric(10,2) not null,
  unit_cost numeric(12,2) not null, starts_on date not null, outcome text, comments text, lock_version int not null,
  updated_by_id text, updated_at timestamptz not null
);
insert into bench.plain
  select g, '10000000-0000-4000-8000-000000000001', gen_random_uuid(), 'in_progress', 4, 85, '2026-02-01', null,
    'Weekly family counseling, with the school''s report taken into account.', 0, null, now() from generate_series(1, 20000) g;
create table bench.identity (like bench.plain including all);
insert into bench.identity select * from bench.plain;
alter table bench.identity replica identity full;
create table bench.stamped (like bench.plain including all);
insert into bench.stamped select * from bench.plain;
-- Publishing them makes the event trigger of the setup cover both; the one is to have the identity only.
alter publication casebook_audit add table bench.identity, bench.stamped;
drop trigger casebook_audit_stamp on bench.identity;
grant select, update on bench.plain, bench.identity, bench.stamped to casebook_app;
vacuum analyze bench.plain;
vacuum analyze bench.identity;
vacuum analyze bench.stamped;
checkpoint;
