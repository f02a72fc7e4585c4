-- The scenarios of a working day, and the edges E1-E3, as runnable SQL.
-- Needs schema.sql and seed.sql. One session for each section.
-- The application sets   SET LOCAL audit.user_id = '<membership.users.id>'   in each transaction.

-- @@S01 Intake report taken over the phone
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000002';
INSERT INTO people.people (id, tenant_id, first_name, last_name, date_of_birth, created_by_id)
VALUES ('40000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','Eva','Reyes','2017-05-02','20000000-0000-4000-8000-000000000002');
INSERT INTO intake.reports (id, tenant_id, name, report_type, status, report_method_id, county_id, reported_at, narrative, created_by_id)
VALUES ('a0000000-0000-4000-8000-000000000001','10000000-0000-4000-8000-000000000001','E. Reyes 2026-03-10','incident','submitted',
        '30000000-0000-4000-8000-000000000009','30000000-0000-4000-8000-000000000008','2026-03-10 14:02Z','Caller states that ...','20000000-0000-4000-8000-000000000002');
INSERT INTO intake.report_people (id, report_id, person_id, roles, is_reporter) VALUES
 ('a1000000-0000-4000-8000-000000000001','a0000000-0000-4000-8000-000000000001','40000000-0000-4000-8000-000000000011','{victim}',false),
 ('a1000000-0000-4000-8000-000000000002','a0000000-0000-4000-8000-000000000001','40000000-0000-4000-8000-000000000005','{mandated_reporter}',true);
WITH i AS (INSERT INTO intake.incidents (report_id, occurred_on, location_type, description)
           VALUES ('a0000000-0000-4000-8000-000000000001','2026-03-09','home','Bruising on arm') RETURNING id)
INSERT INTO intake.allegations (incident_id, victim_person_id, allegation_types)
SELECT id,'40000000-0000-4000-8000-000000000011','{physical_abuse}' FROM i;
COMMIT;

-- @@S02 Report screened in and promoted to a case with people
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000003';
INSERT INTO cases.cases (id, tenant_id, name, case_type_id, status_id, county_id, source_report_id, opened_on, created_by_id)
VALUES ('50000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','E. Reyes','30000000-0000-4000-8000-000000000001',
        '30000000-0000-4000-8000-000000000002','30000000-0000-4000-8000-000000000008','a0000000-0000-4000-8000-000000000001','2026-03-10','20000000-0000-4000-8000-000000000003');
INSERT INTO cases.case_involvements (id, case_id, person_id, involvement_type_id, role_id, started_on, created_by_id) VALUES
 ('51000000-0000-4000-8000-000000000011','50000000-0000-4000-8000-000000000011','40000000-0000-4000-8000-000000000011','30000000-0000-4000-8000-000000000005','30000000-0000-4000-8000-000000000006','2026-03-10','20000000-0000-4000-8000-000000000003');
INSERT INTO cases.case_goals (case_id, description) VALUES ('50000000-0000-4000-8000-000000000011','Safe at home within 90 days');
INSERT INTO intake.screening_decisions (id, report_id, outcome, reason_id, decided_by_id, case_id)
VALUES ('a2000000-0000-4000-8000-000000000001','a0000000-0000-4000-8000-000000000001','screened_in','30000000-0000-4000-8000-000000000010','20000000-0000-4000-8000-000000000003','50000000-0000-4000-8000-000000000011');
UPDATE intake.reports SET status='decided', updated_by_id='20000000-0000-4000-8000-000000000003', lock_version=lock_version+1
 WHERE id='a0000000-0000-4000-8000-000000000001';
WITH a AS (INSERT INTO membership.assignments (tenant_id, assignable_type, assignable_id)
           VALUES ('10000000-0000-4000-8000-000000000001','case','50000000-0000-4000-8000-000000000011') RETURNING id)
INSERT INTO membership.assignment_users (assignment_id, user_id, duty, assigned_by_id)
SELECT id,'20000000-0000-4000-8000-000000000001','primary','20000000-0000-4000-8000-000000000003' FROM a;
INSERT INTO ops.notifications (user_id, kind) VALUES ('20000000-0000-4000-8000-000000000001','case_assigned');
COMMIT;

-- @@S03 Service enrollment added with Total Cost and Units (the example of the seed page)
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO services.service_enrollments (id, tenant_id, kind, case_id, person_id, service_type_id, service_offering_id, status, starts_on, ends_on, units, unit_cost, total_cost, created_by_id)
SELECT '71000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','provider_offering','50000000-0000-4000-8000-000000000001',
       '40000000-0000-4000-8000-000000000001', service_type_id, id,'pending','2026-03-16','2026-06-15',12,85.00,1020.00,'20000000-0000-4000-8000-000000000001'
FROM services.service_offerings WHERE id='70000000-0000-4000-8000-000000000001';
COMMIT;

-- @@S04 Enrollment corrected, then started: the same row twice in one transaction
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE services.service_enrollments SET units=16, total_cost=1360.00, lock_version=lock_version+1, updated_by_id='20000000-0000-4000-8000-000000000001' WHERE id='71000000-0000-4000-8000-000000000011';
UPDATE services.service_enrollments SET status='in_progress', lock_version=lock_version+1 WHERE id='71000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S06 Meeting scheduled with attendees; a portal user accepts
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO content.events (id, tenant_id, case_id, meeting_type_id, title, location, starts_at, ends_at, organizer_id, created_by_id)
VALUES ('90000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000001','30000000-0000-4000-8000-000000000014','Family team meeting','Office 3B','2026-03-20 15:00Z','2026-03-20 16:00Z','20000000-0000-4000-8000-000000000001','20000000-0000-4000-8000-000000000001');
INSERT INTO content.event_attendees (event_id, attendee_no, user_id, person_id, external_email) VALUES
 ('90000000-0000-4000-8000-000000000011',1,'20000000-0000-4000-8000-000000000003',NULL,NULL),
 ('90000000-0000-4000-8000-000000000011',2,NULL,'40000000-0000-4000-8000-000000000002',NULL),
 ('90000000-0000-4000-8000-000000000011',3,NULL,NULL,'achen@brightpath.example');
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000009';
UPDATE content.event_attendees SET response='accepted' WHERE event_id='90000000-0000-4000-8000-000000000011' AND attendee_no=2;
COMMIT;

-- @@S07 Meeting moved from an outside calendar; the sync then stamps itself
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000010';
UPDATE content.events SET starts_at='2026-03-20 17:00Z', ends_at='2026-03-20 18:00Z', reminder_minutes='{1440,30}', external_calendar_id='gcal-77', external_synced_at=now() WHERE id='90000000-0000-4000-8000-000000000011';
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000010';
UPDATE content.events SET external_synced_at=clock_timestamp() WHERE id='90000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S08 Note edited several times (create, edit body, edit subject only, no-op autosave, lock by the system)
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO content.notes (id, tenant_id, notable_type, notable_id, note_type, subject, body, contact_at, created_by_id)
VALUES ('80000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','case','50000000-0000-4000-8000-000000000001','contact','Call with school',
        (SELECT string_agg(md5(g::text),' ') FROM generate_series(1,700) g),'2026-03-12 16:00Z','20000000-0000-4000-8000-000000000001');
INSERT INTO content.note_people VALUES ('80000000-0000-4000-8000-000000000011','40000000-0000-4000-8000-000000000001');
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE content.notes SET body=body||' Attendance is improving.', lock_version=lock_version+1, updated_by_id='20000000-0000-4000-8000-000000000001' WHERE id='80000000-0000-4000-8000-000000000011';
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE content.notes SET subject='Call with school counselor', lock_version=lock_version+1 WHERE id='80000000-0000-4000-8000-000000000011';
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE content.notes SET subject=subject, body=body, lock_version=lock_version+1 WHERE id='80000000-0000-4000-8000-000000000011';
COMMIT;
BEGIN;
UPDATE content.notes SET locked_at='2026-04-11 05:00Z' WHERE id='80000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S09 Attachment uploaded to a note; scanned by the system a moment later
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO content.attachments (id, tenant_id, attachable_type, attachable_id, file_name, content_type, byte_size, sha256, storage_key, category_id, uploaded_by_id)
VALUES ('81000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001','note','80000000-0000-4000-8000-000000000011','court-order.pdf','application/pdf',482113,sha256('court'),'t/hfs/81/11','30000000-0000-4000-8000-000000000015','20000000-0000-4000-8000-000000000001');
COMMIT;
BEGIN;
UPDATE content.attachments SET scan_status='clean' WHERE id='81000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S10 Provider licence renewed; a data trigger starts a workflow in the same transaction
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000004';
UPDATE providers.licenses SET expires_on='2028-06-30', capacity=4, updated_by_id='20000000-0000-4000-8000-000000000004' WHERE id='62000000-0000-4000-8000-000000000001';
INSERT INTO tasks.workflows (id, tenant_id, workflow_template_id, subject_type, subject_id, started_by_id)
SELECT '91000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001', id,'provider','60000000-0000-4000-8000-000000000002', NULL FROM tasks.workflow_templates;
INSERT INTO tasks.workflow_steps (id, workflow_id, step_no, name, due_on) VALUES
 ('92000000-0000-4000-8000-000000000011','91000000-0000-4000-8000-000000000011',1,'Send renewal letter','2026-03-19'),
 ('92000000-0000-4000-8000-000000000012','91000000-0000-4000-8000-000000000011',2,'Home inspection','2026-03-26'),
 ('92000000-0000-4000-8000-000000000013','91000000-0000-4000-8000-000000000011',3,'File certificate','2026-04-02');
INSERT INTO tasks.tasks (tenant_id, workflow_step_id, title, assignee_user_id)
VALUES ('10000000-0000-4000-8000-000000000001','92000000-0000-4000-8000-000000000012','Inspect smoke alarms','20000000-0000-4000-8000-000000000004');
COMMIT;

-- @@S11 Workflow step completed by the system, no user at all
BEGIN;
UPDATE tasks.workflow_steps SET status='completed', completed_at='2026-03-19 06:00Z' WHERE id='92000000-0000-4000-8000-000000000011';
UPDATE tasks.workflow_steps SET status='in_progress' WHERE id='92000000-0000-4000-8000-000000000012';
COMMIT;

-- @@S13 Form filled in, submitted, one answer corrected, approved by the supervisor
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO content.form_submissions (id, tenant_id, form_template_id, form_version, case_id, status, submitted_at, submitted_by_id, created_by_id)
SELECT '95000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001', id, 3,'50000000-0000-4000-8000-000000000001','submitted','2026-03-13 15:00Z','20000000-0000-4000-8000-000000000001','20000000-0000-4000-8000-000000000001' FROM content.form_templates;
INSERT INTO content.form_answers (form_submission_id, field_key, ordinal, question_label, answer) VALUES
 ('95000000-0000-4000-8000-000000000011','prior_reports',0,'Prior reports','2'),
 ('95000000-0000-4000-8000-000000000011','risk',0,'Overall risk','"moderate"'),
 ('95000000-0000-4000-8000-000000000011','member_name',0,'Household member','"Karen"'),
 ('95000000-0000-4000-8000-000000000011','member_name',1,'Household member','"John"');
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000003';
UPDATE content.form_answers SET answer='"high"' WHERE form_submission_id='95000000-0000-4000-8000-000000000011' AND field_key='risk';
UPDATE content.form_submissions SET status='approved', updated_by_id='20000000-0000-4000-8000-000000000003' WHERE id='95000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S14 Nightly batch reassigns 20,000 assignments in one transaction
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000007';
UPDATE membership.assignment_users SET user_id='20000000-0000-4000-8000-000000000001'
 WHERE user_id='20000000-0000-4000-8000-000000000008' AND unassigned_at IS NULL;
COMMIT;

-- @@S16 Case deleted for good, with cascade
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000005';
DELETE FROM cases.cases WHERE id='50000000-0000-4000-8000-000000000009';
COMMIT;

-- @@S17 Case soft-deleted by mistake and restored
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE cases.cases SET deleted_at='2026-03-15 09:00Z', deleted_by_id='20000000-0000-4000-8000-000000000001', lock_version=lock_version+1 WHERE id='50000000-0000-4000-8000-000000000003';
UPDATE cases.case_involvements SET deleted_at='2026-03-15 09:00Z', deleted_by_id='20000000-0000-4000-8000-000000000001' WHERE case_id='50000000-0000-4000-8000-000000000003' AND deleted_at IS NULL;
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000005';
UPDATE cases.cases SET deleted_at=NULL, deleted_by_id=NULL, lock_version=lock_version+1 WHERE id='50000000-0000-4000-8000-000000000003';
UPDATE cases.case_involvements SET deleted_at=NULL, deleted_by_id=NULL WHERE case_id='50000000-0000-4000-8000-000000000003' AND deleted_at='2026-03-15 09:00Z';
COMMIT;

-- @@S18 Off hours: one user exports a data set and deletes 400 notes and 60 attachments
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000008';
INSERT INTO ops.export_jobs (tenant_id, user_id, dataset, row_count, requested_at, finished_at)
VALUES ('10000000-0000-4000-8000-000000000001','20000000-0000-4000-8000-000000000008','case_involvements',48211,'2026-03-15 06:12Z','2026-03-15 06:13Z');
COMMIT;
DO $$
DECLARE n uuid;
BEGIN
  FOR n IN SELECT id FROM content.notes WHERE created_by_id='20000000-0000-4000-8000-000000000008' AND deleted_at IS NULL LOOP
    PERFORM set_config('audit.user_id','20000000-0000-4000-8000-000000000008', true);
    UPDATE content.notes SET deleted_at=clock_timestamp(), deleted_by_id='20000000-0000-4000-8000-000000000008' WHERE id=n;
    COMMIT;
  END LOOP;
END $$;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000008';
DELETE FROM content.attachments WHERE file_name='scan.pdf';
COMMIT;

-- @@S20 A rolled back savepoint, and a transaction rolled back whole
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO tasks.tasks (tenant_id, case_id, title, assignee_user_id) VALUES ('10000000-0000-4000-8000-000000000001','50000000-0000-4000-8000-000000000001','Call the court clerk','20000000-0000-4000-8000-000000000001');
SAVEPOINT s1;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000003';
INSERT INTO content.emails (tenant_id, record_type, record_id, direction, from_address, to_addresses, subject, sent_by_id)
VALUES ('10000000-0000-4000-8000-000000000001','case','50000000-0000-4000-8000-000000000001','outbound','maria.alvarez@hfs.example','{clerk@court.example}','Hearing date','20000000-0000-4000-8000-000000000001');
ROLLBACK TO SAVEPOINT s1;
UPDATE cases.cases SET custom_fields = custom_fields || '{"risk_level":"high"}', lock_version=lock_version+1 WHERE id='50000000-0000-4000-8000-000000000001';
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
DELETE FROM content.notes WHERE id='80000000-0000-4000-8000-000000000001';
ROLLBACK;

-- @@S23 Relationship between two people added, later ended
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
INSERT INTO people.relationships (id, tenant_id, relationship_type_id, strong_side_person_id, weak_side_person_id, started_on, created_by_id)
VALUES ('47000000-0000-4000-8000-000000000011','10000000-0000-4000-8000-000000000001',7,'40000000-0000-4000-8000-000000000004','40000000-0000-4000-8000-000000000007','2026-03-01','20000000-0000-4000-8000-000000000001');
COMMIT;
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000001';
UPDATE people.relationships SET ended_on='2026-03-18' WHERE id='47000000-0000-4000-8000-000000000011';
COMMIT;

-- @@S25 Eligibility system upserts 500 people, 480 of them unchanged
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000006';
INSERT INTO people.people (id, tenant_id, first_name, last_name, date_of_birth, legacy_id, updated_by_id)
SELECT ('4a000000-0000-4000-8000-'||lpad(g::text,12,'0'))::uuid,'10000000-0000-4000-8000-000000000001','Client',
       CASE WHEN g<=20 THEN 'No'||g||'-Changed' ELSE 'No'||g END, DATE '1990-01-01'+g,'ELIG-'||g,'20000000-0000-4000-8000-000000000006'
FROM generate_series(1,500) g
ON CONFLICT (id) DO UPDATE SET first_name=excluded.first_name, last_name=excluded.last_name, date_of_birth=excluded.date_of_birth;
COMMIT;

-- @@E1 Administration: role granted, user disabled, a configured value renamed
BEGIN;
SET LOCAL audit.user_id = '20000000-0000-4000-8000-000000000005';
INSERT INTO membership.user_roles (user_id, role_id, granted_by_id) SELECT '20000000-0000-4000-8000-000000000008', id,'20000000-0000-4000-8000-000000000005' FROM membership.roles WHERE name='Admin';
UPDATE membership.users SET status='disabled', disabled_at=now() WHERE id='20000000-0000-4000-8000-000000000008';
UPDATE config.field_values SET label='Safety Monitoring' WHERE id='30000000-0000-4000-8000-000000000003';
COMMIT;

-- @@E2 Schema change in operation: new column, back-filled
BEGIN;
ALTER TABLE cases.programs ADD COLUMN grant_number text;
UPDATE cases.programs SET grant_number='G-1';
COMMIT;

-- @@E3 TRUNCATE
BEGIN;
INSERT INTO ops.import_rows VALUES ('b0000000-0000-4000-8000-000000000001',1,'People','{}',NULL);
TRUNCATE ops.import_rows;
TRUNCATE people.education_records;
COMMIT;
