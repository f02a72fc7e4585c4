-- The rows that the scenarios start from. All ids are fixed.
-- Load after schema.sql, before a replication slot is created.
BEGIN;
INSERT INTO membership.tenants (id, slug, name) VALUES ('10000000-0000-4000-8000-000000000001', 'hfs', 'Hoosier Family Services');

INSERT INTO membership.users (id, tenant_id, email, display_name, kind, status) VALUES
 ('20000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'maria.alvarez@hfs.example',  'Maria Alvarez',  'staff','active'),  -- case worker
 ('20000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001', 'david.kim@hfs.example',      'David Kim',      'staff','active'),  -- intake worker
 ('20000000-0000-4000-8000-000000000003', '10000000-0000-4000-8000-000000000001', 'tanya.brooks@hfs.example',   'Tanya Brooks',   'staff','active'),  -- supervisor
 ('20000000-0000-4000-8000-000000000004', '10000000-0000-4000-8000-000000000001', 'omar.haddad@hfs.example',    'Omar Haddad',    'staff','active'),  -- licensing
 ('20000000-0000-4000-8000-000000000005', '10000000-0000-4000-8000-000000000001', 'ruth.cole@hfs.example',      'Ruth Cole',      'staff','active'),  -- admin
 ('20000000-0000-4000-8000-000000000006', '10000000-0000-4000-8000-000000000001', 'eligibility-sync@hfs.example','State Eligibility Sync','external_application','active'),
 ('20000000-0000-4000-8000-000000000007', '10000000-0000-4000-8000-000000000001', 'system@hfs.example',         'Casebook System','system','active'),
 ('20000000-0000-4000-8000-000000000008', '10000000-0000-4000-8000-000000000001', 'kyle.rowan@hfs.example',     'Kyle Rowan',     'staff','active'),  -- leaving employee
 ('20000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001', 'karen.sullivan@mail.example','Karen Sullivan (portal)','portal','active'),
 ('20000000-0000-4000-8000-000000000010', '10000000-0000-4000-8000-000000000001', 'calendar-sync@hfs.example',  'Calendar Sync',  'external_application','active');

INSERT INTO membership.roles (tenant_id, name, is_default) VALUES
 ('10000000-0000-4000-8000-000000000001','Admin',true),('10000000-0000-4000-8000-000000000001','Engage Worker',true),('10000000-0000-4000-8000-000000000001','Engage Supervisor',true),('10000000-0000-4000-8000-000000000001','Intake Worker',true),('10000000-0000-4000-8000-000000000001','Provider Worker',true);
INSERT INTO membership.user_roles (user_id, role_id)
SELECT u.id, r.id FROM membership.users u JOIN membership.roles r ON
 (u.email, r.name) IN (('maria.alvarez@hfs.example','Engage Worker'),('david.kim@hfs.example','Intake Worker'),
  ('tanya.brooks@hfs.example','Engage Supervisor'),('omar.haddad@hfs.example','Provider Worker'),
  ('ruth.cole@hfs.example','Admin'),('kyle.rowan@hfs.example','Engage Worker'));

INSERT INTO config.field_values (id, tenant_id, field_key, label) VALUES
 ('30000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001','case.type','Family Preservation'),
 ('30000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001','case.status','Open'),
 ('30000000-0000-4000-8000-000000000003', '10000000-0000-4000-8000-000000000001','case.status','Monitoring'),
 ('30000000-0000-4000-8000-000000000004', '10000000-0000-4000-8000-000000000001','case.status','Closed'),
 ('30000000-0000-4000-8000-000000000005', '10000000-0000-4000-8000-000000000001','involvement.type','Client'),
 ('30000000-0000-4000-8000-000000000006', '10000000-0000-4000-8000-000000000001','involvement.role','Child'),
 ('30000000-0000-4000-8000-000000000007', '10000000-0000-4000-8000-000000000001','involvement.role','Parent'),
 ('30000000-0000-4000-8000-000000000008', '10000000-0000-4000-8000-000000000001','county','Marion'),
 ('30000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001','report.method','Phone'),
 ('30000000-0000-4000-8000-000000000010', '10000000-0000-4000-8000-000000000001','decision.reason','Meets criteria'),
 ('30000000-0000-4000-8000-000000000011', '10000000-0000-4000-8000-000000000001','provider.type','Counseling Agency'),
 ('30000000-0000-4000-8000-000000000012', '10000000-0000-4000-8000-000000000001','provider.type','Foster Family'),
 ('30000000-0000-4000-8000-000000000013', '10000000-0000-4000-8000-000000000001','license.type','Foster Family Home'),
 ('30000000-0000-4000-8000-000000000014', '10000000-0000-4000-8000-000000000001','meeting.type','Family Team Meeting'),
 ('30000000-0000-4000-8000-000000000015', '10000000-0000-4000-8000-000000000001','attachment.category','Court document');
INSERT INTO config.dynamic_fields VALUES
 ('10000000-0000-4000-8000-000000000001','person','tribal_enrollment_no','Tribal enrollment number','text',false,true,'{}'),
 ('10000000-0000-4000-8000-000000000001','case','risk_level','Risk level','choice',false,false,'{low,moderate,high}');

INSERT INTO people.people (id, tenant_id, first_name, last_name, date_of_birth, ssn, gender, races, primary_language) VALUES
 ('40000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001','John','Sullivan','2014-03-09','123-45-6789','male','{White}','English'),
 ('40000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001','Karen','Sullivan','1987-11-21',NULL,'female','{White}','English'),
 ('40000000-0000-4000-8000-000000000003', '10000000-0000-4000-8000-000000000001','Jon','Sulivan','2014-03-09',NULL,'male','{}',NULL),            -- duplicate of 001
 ('40000000-0000-4000-8000-000000000004', '10000000-0000-4000-8000-000000000001','Amy','Chen',NULL,NULL,'female','{}','English'),                -- therapist
 ('40000000-0000-4000-8000-000000000005', '10000000-0000-4000-8000-000000000001','Mary','Lopez',NULL,NULL,'female','{}','Spanish'),              -- teacher, reporter
 ('40000000-0000-4000-8000-000000000006', '10000000-0000-4000-8000-000000000001','Luis','Ortega','2011-06-30',NULL,'male','{}','Spanish'),
 ('40000000-0000-4000-8000-000000000007', '10000000-0000-4000-8000-000000000001','Dana','Pratt','2009-01-15',NULL,'female','{}','English');
INSERT INTO people.relationships (tenant_id, relationship_type_id, strong_side_person_id, weak_side_person_id) VALUES
 ('10000000-0000-4000-8000-000000000001', 1, '40000000-0000-4000-8000-000000000002','40000000-0000-4000-8000-000000000003');                     -- Karen - duplicate Jon
INSERT INTO people.addresses (id, tenant_id, line_1, city, state, postal_code, county_id) VALUES
 ('45000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001','1200 N Meridian St','Indianapolis','IN','46204','30000000-0000-4000-8000-000000000008'),
 ('45000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001','88 Oak Ln','Indianapolis','IN','46220','30000000-0000-4000-8000-000000000008');
INSERT INTO people.person_addresses (person_id, address_id, started_on) VALUES
 ('40000000-0000-4000-8000-000000000001','45000000-0000-4000-8000-000000000001','2025-01-01'),
 ('40000000-0000-4000-8000-000000000002','45000000-0000-4000-8000-000000000001','2025-01-01');

INSERT INTO cases.programs (tenant_id, name) VALUES ('10000000-0000-4000-8000-000000000001','Family Preservation Services');
INSERT INTO cases.cases (id, tenant_id, name, case_type_id, status_id, program_id, opened_on)
SELECT v.id::uuid, '10000000-0000-4000-8000-000000000001', v.name, '30000000-0000-4000-8000-000000000001','30000000-0000-4000-8000-000000000002', p.id, DATE '2026-01-05'
FROM cases.programs p, (VALUES ('50000000-0000-4000-8000-000000000001','J. Sullivan'),
                               ('50000000-0000-4000-8000-000000000002','L. Ortega'),
                               ('50000000-0000-4000-8000-000000000003','D. Pratt'),
                               ('50000000-0000-4000-8000-000000000009','Test - delete me')) v(id,name);
INSERT INTO cases.case_involvements (id, case_id, person_id, involvement_type_id, role_id, started_on) VALUES
 ('51000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000001','40000000-0000-4000-8000-000000000001','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-01-05'),
 ('51000000-0000-4000-8000-000000000002','50000000-0000-4000-8000-000000000001','40000000-0000-4000-8000-000000000002','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000007','2026-01-05'),
 ('51000000-0000-4000-8000-000000000003','50000000-0000-4000-8000-000000000002','40000000-0000-4000-8000-000000000006','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-01-05'),
 ('51000000-0000-4000-8000-000000000004','50000000-0000-4000-8000-000000000003','40000000-0000-4000-8000-000000000007','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-01-05'),
 ('51000000-0000-4000-8000-000000000005','50000000-0000-4000-8000-000000000002','40000000-0000-4000-8000-000000000003','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-01-05'),
 ('51000000-0000-4000-8000-000000000009','50000000-0000-4000-8000-000000000009','40000000-0000-4000-8000-000000000007','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-01-05');

INSERT INTO providers.providers (id, tenant_id, name, provider_type_id, status) VALUES
 ('60000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001','Bright Path Counseling','30000000-0000-4000-8000-000000000011','active'),
 ('60000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001','Miller Foster Home','30000000-0000-4000-8000-000000000012','active');
INSERT INTO providers.locations (id, provider_id, address_id) VALUES
 ('61000000-0000-4000-8000-000000000001','60000000-0000-4000-8000-000000000002','45000000-0000-4000-8000-000000000002');
INSERT INTO providers.licenses (id, provider_id, license_type_id, license_number, status, effective_on, expires_on, capacity) VALUES
 ('62000000-0000-4000-8000-000000000001','60000000-0000-4000-8000-000000000002','30000000-0000-4000-8000-000000000013','FFH-20417','active','2022-07-01','2026-06-30',3);

INSERT INTO services.service_types (tenant_id, name, default_unit) VALUES ('10000000-0000-4000-8000-000000000001','Family Counseling','Hour'),('10000000-0000-4000-8000-000000000001','Parenting Class','Class');
INSERT INTO services.service_offerings (id, tenant_id, provider_id, service_type_id, name, languages, person_providing_id, unit_of_delivery, unit_cost, session_starts_at, session_length, roster_enabled)
SELECT '70000000-0000-4000-8000-000000000001'::uuid, '10000000-0000-4000-8000-000000000001'::uuid,'60000000-0000-4000-8000-000000000001'::uuid, id,'Weekly family counseling','{English,Spanish}'::text[],'40000000-0000-4000-8000-000000000004'::uuid,'Hour',85.00,NULL::time,interval '1 hour',false FROM services.service_types WHERE name='Family Counseling'
UNION ALL
SELECT '70000000-0000-4000-8000-000000000002'::uuid, '10000000-0000-4000-8000-000000000001'::uuid,'60000000-0000-4000-8000-000000000001'::uuid, id,'Parenting class, spring cohort','{English}'::text[],'40000000-0000-4000-8000-000000000004'::uuid,'Class',40.00,time '18:00',interval '2 hours',true FROM services.service_types WHERE name='Parenting Class';
-- roster: three enrollments, two with a case, one without (its record is the provider)
INSERT INTO services.service_enrollments (id, tenant_id, kind, case_id, person_id, service_type_id, service_offering_id, status, starts_on, ends_on, units, unit_cost, total_cost)
SELECT v.id::uuid, '10000000-0000-4000-8000-000000000001'::uuid,'provider_offering', v.c::uuid, v.p::uuid, t.id,'70000000-0000-4000-8000-000000000002','in_progress','2026-02-01','2026-06-30',8,40,320
FROM services.service_types t, (VALUES
 ('71000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000001','40000000-0000-4000-8000-000000000002'),
 ('71000000-0000-4000-8000-000000000002','50000000-0000-4000-8000-000000000002','40000000-0000-4000-8000-000000000006'),
 ('71000000-0000-4000-8000-000000000003',NULL,'40000000-0000-4000-8000-000000000005')) v(id,c,p)
WHERE t.name='Parenting Class';

INSERT INTO content.form_templates (tenant_id, name) VALUES ('10000000-0000-4000-8000-000000000001','Family Risk Assessment');
INSERT INTO content.form_versions (form_template_id, version, stage, definition)
SELECT id, 3, 'live', '{"components":[]}' FROM content.form_templates;

INSERT INTO tasks.workflow_templates (tenant_id, name, record_type, start_trigger) VALUES
 ('10000000-0000-4000-8000-000000000001','License renewal follow-up','provider','{"field":"license.status","equals":"active"}');
INSERT INTO tasks.workflow_template_steps SELECT id, g, 'Step '||g, 7*g FROM tasks.workflow_templates, generate_series(1,3) g;

-- an old note with a body large enough to be TOASTed, and one attachment on it
INSERT INTO content.notes (id, tenant_id, notable_type, notable_id, note_type, subject, body, created_by_id) VALUES
 ('80000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001','case','50000000-0000-4000-8000-000000000001','progress','Home visit',
  (SELECT string_agg(md5(g::text), ' ') FROM generate_series(1,600) g),'20000000-0000-4000-8000-000000000001'),
 ('80000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001','case','50000000-0000-4000-8000-000000000009','general','scratch','test','20000000-0000-4000-8000-000000000001');
INSERT INTO content.attachments (id, tenant_id, attachable_type, attachable_id, file_name, content_type, byte_size, sha256, storage_key, scan_status) VALUES
 ('81000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001','note','80000000-0000-4000-8000-000000000009','scratch.txt','text/plain',4,sha256('test'),'k/scratch','clean');
INSERT INTO services.service_enrollments (id, tenant_id, kind, case_id, person_id, service_type_id, status, units, unit_cost, total_cost)
SELECT '71000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001','internal_staff','50000000-0000-4000-8000-000000000009','40000000-0000-4000-8000-000000000007', id,'pending',1,10,10 FROM services.service_types WHERE name='Family Counseling';
INSERT INTO services.service_interactions (id, service_enrollment_id, occurred_at, body) VALUES
 ('72000000-0000-4000-8000-000000000009','71000000-0000-4000-8000-000000000009','2026-03-01 10:00Z','first');
INSERT INTO services.service_interaction_people VALUES ('72000000-0000-4000-8000-000000000009','40000000-0000-4000-8000-000000000007','attended',1);
INSERT INTO content.events (id, tenant_id, case_id, title, starts_at, ends_at) VALUES
 ('90000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000009','Scratch meeting','2026-03-02 10:00Z','2026-03-02 11:00Z');
INSERT INTO content.event_attendees (event_id, attendee_no, user_id) VALUES ('90000000-0000-4000-8000-000000000009',1,'20000000-0000-4000-8000-000000000001');
INSERT INTO tasks.tasks (tenant_id, case_id, title) VALUES ('10000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000009','scratch task');
INSERT INTO content.form_submissions (id, tenant_id, form_template_id, form_version, case_id)
SELECT '95000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001', id, 3,'50000000-0000-4000-8000-000000000009' FROM content.form_templates;
INSERT INTO content.form_answers VALUES ('95000000-0000-4000-8000-000000000009','q1',0,'Question 1','"yes"',now());

-- caseload for the nightly batch: 20,000 closed-quarter cases of one departing worker
INSERT INTO cases.cases (tenant_id, name, case_type_id, status_id, opened_on)
SELECT '10000000-0000-4000-8000-000000000001', 'Batch case '||g, '30000000-0000-4000-8000-000000000001','30000000-0000-4000-8000-000000000003', DATE '2025-01-01'
FROM generate_series(1,20000) g;
INSERT INTO membership.assignments (tenant_id, assignable_type, assignable_id)
SELECT '10000000-0000-4000-8000-000000000001','case', id FROM cases.cases;
INSERT INTO membership.assignment_users (assignment_id, user_id)
SELECT a.id, '20000000-0000-4000-8000-000000000008' FROM membership.assignments a JOIN cases.cases c ON c.id=a.assignable_id WHERE c.name LIKE 'Batch case %';
-- 400 notes and 60 attachments of Kyle Rowan, for the off-hours deletion
INSERT INTO content.notes (tenant_id, notable_type, notable_id, subject, body, created_by_id)
SELECT '10000000-0000-4000-8000-000000000001','case', c.id,'Contact '||row_number() over (), 'text','20000000-0000-4000-8000-000000000008'
FROM (SELECT id FROM cases.cases WHERE name LIKE 'Batch case %' ORDER BY case_number LIMIT 400) c;
INSERT INTO content.attachments (tenant_id, attachable_type, attachable_id, file_name, content_type, byte_size, sha256, storage_key, scan_status)
SELECT '10000000-0000-4000-8000-000000000001','case', c.id,'scan.pdf','application/pdf',1000,sha256(c.id::text::bytea),'k/'||c.id,'clean'
FROM (SELECT id FROM cases.cases WHERE name LIKE 'Batch case %' ORDER BY case_number LIMIT 60) c;
-- 500 people known to the eligibility system, for the API upsert
INSERT INTO people.people (id, tenant_id, first_name, last_name, date_of_birth, legacy_id)
SELECT ('4a000000-0000-4000-8000-'||lpad(g::text,12,'0'))::uuid, '10000000-0000-4000-8000-000000000001','Client','No'||g, DATE '1990-01-01'+g,'ELIG-'||g FROM generate_series(1,500) g;
COMMIT;
