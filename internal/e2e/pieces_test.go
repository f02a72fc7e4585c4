package e2e

import (
	"context"
	"fmt"
	"strconv"
)

// The seeded rows that the pieces lean on.
const (
	tenant      = "10000000-0000-4000-8000-000000000001"
	caseType    = "30000000-0000-4000-8000-000000000001"
	statusOpen  = "30000000-0000-4000-8000-000000000002"
	statusWatch = "30000000-0000-4000-8000-000000000003"
	involvement = "30000000-0000-4000-8000-000000000005"
	roleChild   = "30000000-0000-4000-8000-000000000006"
	seededCase  = "50000000-0000-4000-8000-000000000001"
	seededChild = "40000000-0000-4000-8000-000000000001"
	provider    = "60000000-0000-4000-8000-000000000001"
	offering    = "70000000-0000-4000-8000-000000000001"
)

// piece does one thing that a worker does in the application.
func (w *writer) piece(ctx context.Context) error {
	pieces := [...]func(*writer, context.Context) error{
		(*writer).newPerson, (*writer).editPerson, (*writer).editPerson, (*writer).loner,
		(*writer).newCase, (*writer).newCase, (*writer).editCase, (*writer).editCase, (*writer).customFields, (*writer).customFields,
		(*writer).hideCase, (*writer).deleteCase,
		(*writer).newNote, (*writer).newNote, (*writer).editNote, (*writer).editNote, (*writer).removeNote,
		(*writer).newEnrollment, (*writer).editEnrollment, (*writer).interaction, (*writer).removeEnrollment,
		(*writer).newTask, (*writer).editTask, (*writer).checklist, (*writer).newSMS, (*writer).editSMS,
		(*writer).newForm, (*writer).editForm, (*writer).newEvent, (*writer).editEvent, (*writer).relate, (*writer).unrelate,
		(*writer).newReport, (*writer).address, (*writer).noise, (*writer).administer,
	}
	return pieces[w.rng.IntN(len(pieces))](w, ctx)
}

func (w *writer) newPerson(ctx context.Context) error {
	id := w.id()
	w.mine.people = append(w.mine.people, id)
	return w.exec(ctx, `insert into people.people (id, tenant_id, first_name, last_name, preferred_name, date_of_birth, ssn, races, custom_fields, created_by_id)
		values ($1, $2, $3, $4, $5, date '1950-01-01' + $6::int, $7, $8, $9, $10)`,
		id, tenant, w.maybe(w.text("first")), w.text("last"), w.maybe(w.text("preferred")), w.rng.IntN(25000),
		fmt.Sprintf("%03d-%02d-%04d", w.rng.IntN(1000), w.rng.IntN(100), w.rng.IntN(10000)), []string{secretWord, "White"},
		`{"tribal_enrollment_no": "`+secretWord+` T-`+strconv.Itoa(w.rng.IntN(1000))+`"}`, w.user)
}

func (w *writer) editPerson(ctx context.Context) error {
	return w.exec(ctx, `update people.people set preferred_name = $2, ssn = case when $3 then null else ssn end, is_veteran = $4,
		races = races || $5::text, lock_version = lock_version + 1, updated_by_id = $6 where id = $1`,
		w.pick(w.mine.people), w.maybe(w.text("preferred")), w.chance(20), w.chance(50), w.text("race"), w.user)
}

// loner is a person whom nothing refers to, with rows that go with him, and then he is deleted.
func (w *writer) loner(ctx context.Context) error {
	if w.chance(40) {
		return w.exec(ctx, `delete from people.people where id = $1`, w.pick(w.mine.loners))
	}
	id := w.id()
	w.mine.loners = append(w.mine.loners, id)
	if err := w.exec(ctx, `insert into people.people (id, tenant_id, last_name) values ($1, $2, $3)`, id, tenant, w.text("loner")); err != nil {
		return err
	}
	if err := w.exec(ctx, `insert into people.contact_points (person_id, kind, value) values ($1, 'email', $2), ($1, 'phone', '+13175550100')`,
		id, secretWord+"@mail.example"); err != nil {
		return err
	}
	return w.exec(ctx, `insert into people.person_identifiers (person_id, id_type, id_value, expires_on) values ($1, 'medicaid', $2, null), ($1, 'court', $3, '2031-02-03')`,
		id, w.text("medicaid"), w.text("court"))
}

func (w *writer) newCase(ctx context.Context) error {
	id := w.id()
	w.mine.cases = append(w.mine.cases, id)
	if err := w.exec(ctx, `insert into cases.cases (id, tenant_id, name, case_type_id, status_id, custom_fields, created_by_id)
		values ($1, $2, $3, $4, $5, $6, $7)`, id, tenant, w.text("case"), caseType, statusOpen,
		`{"risk_level": "low", "note": "`+secretWord+`", "count": `+strconv.Itoa(w.rng.IntN(100))+`}`, w.user); err != nil {
		return err
	}
	person := w.pick(w.mine.people)
	if len(w.mine.people) == 0 || w.chance(20) {
		person = seededChild
	}
	if err := w.exec(ctx, `insert into cases.case_involvements (case_id, person_id, involvement_type_id, role_id)
		select $1, id, $3, $4 from people.people where id = $2`, id, person, involvement, roleChild); err != nil {
		return err
	}
	return w.exec(ctx, `insert into cases.case_goals (case_id, description) select $1, $2 || g from generate_series(1, $3::int) g`,
		id, w.text("goal"), w.rng.IntN(3))
}

func (w *writer) editCase(ctx context.Context) error {
	id := w.pick(w.mine.cases)
	if w.chance(15) {
		id = seededCase // all writers meet here
	}
	return w.exec(ctx, `update cases.cases set name = $2, status_id = case when $3 then $4::uuid else $5::uuid end,
		closed_on = case when $6 then opened_on + 30 end, lock_version = lock_version + 1, updated_by_id = $7 where id = $1`,
		id, w.text("case"), w.chance(50), statusOpen, statusWatch, w.chance(30), w.user)
}

func (w *writer) customFields(ctx context.Context) error {
	id := w.pick(w.mine.cases)
	switch w.rng.IntN(4) {
	case 0:
		return w.exec(ctx, `update cases.cases set custom_fields = custom_fields - 'risk_level' where id = $1`, id)
	case 1:
		return w.exec(ctx, `update cases.cases set custom_fields = custom_fields || jsonb_build_object('nested', jsonb_build_object('a', array[1, $2::int]), 'nothing', null) where id = $1`, id, w.rng.IntN(100))
	case 2:
		return w.exec(ctx, `update cases.cases set custom_fields = custom_fields || jsonb_build_object('risk_level', $2::text, 'big', 12345678901234567890.10, 'yes', $3::boolean) where id = $1`, id, w.text("risk"), w.chance(50))
	}
	return w.exec(ctx, `update cases.cases set custom_fields = '{}' where id = $1`, id)
}

// hideCase deletes a case softly, or brings it back.
func (w *writer) hideCase(ctx context.Context) error {
	return w.exec(ctx, `update cases.cases set deleted_at = case when deleted_at is null then now() end,
		deleted_by_id = case when deleted_at is null then $2::uuid end, lock_version = lock_version + 1 where id = $1`, w.pick(w.mine.cases), w.user)
}

// deleteCase takes with it what foreign keys and triggers take.
func (w *writer) deleteCase(ctx context.Context) error {
	return w.exec(ctx, `delete from cases.cases where id = $1`, w.pick(w.mine.cases))
}

// newNote and editNote put the user into a column with audit meaning, so that the log can be held against it.
func (w *writer) newNote(ctx context.Context) error {
	id, body := w.id(), w.text("body")
	if w.chance(20) {
		body = w.long()
	}
	w.mine.notes = append(w.mine.notes, id)
	if err := w.exec(ctx, `insert into content.notes (id, tenant_id, notable_type, notable_id, subject, body, contact_method, tags, created_by_id)
		select $1, $2, 'case', c.id, $4, $5, $6::text, $7, $6::text::uuid from cases.cases c where id = $3`,
		id, tenant, w.pick(append([]string{seededCase}, w.mine.cases...)), w.text("subject"), body, w.user, []string{secretWord, ""}); err != nil {
		return err
	}
	return w.exec(ctx, `insert into content.note_people (note_id, person_id) select n.id, p.id from content.notes n, people.people p where n.id = $1 and p.id = $2`,
		id, w.pick(w.mine.people))
}

func (w *writer) editNote(ctx context.Context) error {
	id := w.pick(w.mine.notes)
	if w.chance(30) {
		return w.exec(ctx, `update content.notes set body = $2, contact_method = $3 where id = $1`, id, w.long(), w.user)
	}
	return w.exec(ctx, `update content.notes set subject = $2, contact_at = $3::timestamptz, contact_method = $4 where id = $1`,
		id, w.text("subject"), fmt.Sprintf("2026-03-%02d 14:%02d:07.5+02", 1+w.rng.IntN(28), w.rng.IntN(60)), w.user)
}

func (w *writer) removeNote(ctx context.Context) error {
	if w.chance(50) {
		return w.exec(ctx, `delete from content.notes where id = $1`, w.pick(w.mine.notes))
	}
	return w.exec(ctx, `update content.notes set deleted_at = now(), deleted_by_id = $2 where id = $1 and deleted_at is null`, w.pick(w.mine.notes), w.user)
}

func (w *writer) newEnrollment(ctx context.Context) error {
	id := w.id()
	w.mine.enrollments = append(w.mine.enrollments, id)
	return w.exec(ctx, `insert into services.service_enrollments (id, tenant_id, kind, case_id, person_id, service_type_id, service_offering_id, units, unit_cost, total_cost, comments)
		select $1, $2, 'provider_offering', (select id from cases.cases where id = $3), $4, o.service_type_id, o.id, $5::numeric, 85.00, $5::numeric * 85, $6
		from services.service_offerings o where o.id = $7`,
		id, tenant, w.pick(w.mine.cases), seededChild, strconv.Itoa(1+w.rng.IntN(20)), w.maybe(w.text("comment")), offering)
}

func (w *writer) editEnrollment(ctx context.Context) error {
	return w.exec(ctx, `update services.service_enrollments set units = units + 0.5, total_cost = (units + 0.5) * unit_cost,
		status = ('{pending,in_progress,completed,cancelled}'::app.enrollment_status[])[$2], outcome = $3 where id = $1`,
		w.pick(w.mine.enrollments), 1+w.rng.IntN(4), w.maybe(w.text("outcome")))
}

func (w *writer) interaction(ctx context.Context) error {
	id := w.id()
	w.mine.interactions = append(w.mine.interactions, id)
	if err := w.exec(ctx, `insert into services.service_interactions (id, service_enrollment_id, occurred_at, ended_at, subject, body)
		select $1, id, '2026-03-10 09:00Z', '2026-03-10 09:45Z', $3, $4 from services.service_enrollments where id = $2`,
		id, w.pick(w.mine.enrollments), w.maybe(w.text("subject")), w.text("interaction")); err != nil {
		return err
	}
	return w.exec(ctx, `insert into services.service_interaction_people (service_interaction_id, person_id, units)
		select id, $2, 1.5 from services.service_interactions where id = $1`, id, seededChild)
}

func (w *writer) removeEnrollment(ctx context.Context) error {
	if w.chance(50) {
		return w.exec(ctx, `delete from services.service_interactions where id = $1`, w.pick(w.mine.interactions))
	}
	return w.exec(ctx, `delete from services.service_enrollments where id = $1`, w.pick(w.mine.enrollments))
}

func (w *writer) newTask(ctx context.Context) error {
	if err := w.returning(ctx, &w.mine.tasks, `insert into tasks.tasks (tenant_id, case_id, title, description, due_on) values ($1, $2, $3, $4, '2026-04-01') returning id::text`,
		tenant, seededCase, w.text("task"), w.maybe(w.text("description"))); err != nil {
		return err
	}
	return w.exec(ctx, `insert into tasks.task_checklist_items (task_id, item_no, label) select $1, g, $2 from generate_series(1, 2) g`,
		w.number(w.mine.tasks[len(w.mine.tasks)-1:]), w.text("item"))
}

// editTask also discards (a soft delete by status) and takes the discard back.
func (w *writer) editTask(ctx context.Context) error {
	return w.exec(ctx, `update tasks.tasks set title = $2, priority = 'high',
		status = ('{open,in_progress,completed,discarded}'::app.task_status[])[$3] where id = $1`,
		w.number(w.mine.tasks), w.text("task"), 1+w.rng.IntN(4))
}

// checklist changes a part of a composite key, ticks, or deletes.
func (w *writer) checklist(ctx context.Context) error {
	task := w.number(w.mine.tasks)
	switch w.rng.IntN(3) {
	case 0:
		return w.exec(ctx, `update tasks.task_checklist_items set item_no = item_no + 10 where task_id = $1 and item_no < 1000`, task)
	case 1:
		return w.exec(ctx, `update tasks.task_checklist_items set done = not done, label = $2 where task_id = $1`, task, w.text("item"))
	}
	return w.exec(ctx, `delete from tasks.task_checklist_items where task_id = $1 and item_no % 10 = 1`, task)
}

func (w *writer) newSMS(ctx context.Context) error {
	return w.returning(ctx, &w.mine.sms, `insert into content.sms_messages (sent_at, tenant_id, record_type, record_id, direction, from_number, to_number, body)
		values (timestamptz '2026-01-15 12:00Z' + $1::int * interval '1 month', $2, 'case', $3, 'outbound', '+13175550100', '+13175550111', $4) returning id::text`,
		w.rng.IntN(13), tenant, seededCase, w.text("sms"))
}

// editSMS at times moves the row to another partition.
func (w *writer) editSMS(ctx context.Context) error {
	if w.chance(40) {
		return w.exec(ctx, `update content.sms_messages set sent_at = sent_at + interval '1 month' where id = $1`, w.number(w.mine.sms))
	}
	return w.exec(ctx, `update content.sms_messages set status = 'delivered', carrier_cost = 0.0075, body = $2 where id = $1`, w.number(w.mine.sms), w.text("sms"))
}

func (w *writer) newForm(ctx context.Context) error {
	id := w.id()
	w.mine.forms = append(w.mine.forms, id)
	if err := w.exec(ctx, `insert into content.form_submissions (id, tenant_id, form_template_id, form_version, case_id)
		select $1, $2, form_template_id, version, $3 from content.form_versions limit 1`, id, tenant, seededCase); err != nil {
		return err
	}
	return w.exec(ctx, `insert into content.form_answers (form_submission_id, field_key, ordinal, question_label, answer)
		values ($1, 'risk', 0, 'Risk', to_jsonb($2::text)), ($1, 'comma,key\', 1, 'Hostile key', 'null'), ($1, 'plain', 2, 'Plain', null)`, id, w.text("answer"))
}

func (w *writer) editForm(ctx context.Context) error {
	id := w.pick(w.mine.forms)
	switch w.rng.IntN(3) {
	case 0:
		return w.exec(ctx, `delete from content.form_submissions where id = $1`, id)
	case 1:
		return w.exec(ctx, `update content.form_submissions set status = 'submitted', submitted_at = now() where id = $1`, id)
	}
	return w.exec(ctx, `update content.form_answers set answer = jsonb_build_array($2::text, 1e3, null) where form_submission_id = $1 and field_key = 'risk'`, id, w.text("answer"))
}

func (w *writer) newEvent(ctx context.Context) error {
	id := w.id()
	w.mine.events = append(w.mine.events, id)
	if err := w.exec(ctx, `insert into content.events (id, tenant_id, provider_id, title, starts_at, ends_at, reminder_minutes)
		values ($1, $2, $3, $4, '2026-03-29 01:30+01', '2026-03-29 03:30+02', '{30,NULL}')`, id, tenant, provider, w.text("event")); err != nil {
		return err
	}
	return w.exec(ctx, `insert into content.event_attendees (event_id, attendee_no, user_id, person_id) values ($1, 1, $2, null), ($1, 2, null, $3)`, id, w.user, seededChild)
}

func (w *writer) editEvent(ctx context.Context) error {
	if w.chance(30) {
		return w.exec(ctx, `delete from content.events where id = $1`, w.pick(w.mine.events))
	}
	return w.exec(ctx, `update content.event_attendees set response = 'accepted', attended = $2 where event_id = $1`, w.pick(w.mine.events), w.chance(50))
}

func (w *writer) relate(ctx context.Context) error {
	id := w.id()
	w.mine.relations = append(w.mine.relations, id)
	return w.exec(ctx, `insert into people.relationships (id, tenant_id, relationship_type_id, strong_side_person_id, weak_side_person_id, comments)
		select $1, $2, 1, a.id, b.id, $5 from people.people a, people.people b where a.id = $3 and b.id = $4 and a.id <> b.id
		on conflict do nothing`, id, tenant, w.pick(w.mine.people), w.pick(append([]string{seededChild}, w.mine.people...)), w.maybe(w.text("comment")))
}

func (w *writer) unrelate(ctx context.Context) error {
	return w.exec(ctx, `update people.relationships set ended_on = '2026-03-18', deleted_at = case when $2 then now() end where id = $1`, w.pick(w.mine.relations), w.chance(30))
}

// newReport has four levels of rows, in one statement each.
func (w *writer) newReport(ctx context.Context) error {
	if w.chance(30) {
		return w.exec(ctx, `delete from intake.reports where id = $1`, w.pick(w.mine.reports))
	}
	id := w.id()
	w.mine.reports = append(w.mine.reports, id)
	if err := w.exec(ctx, `insert into intake.reports (id, tenant_id, name, report_type, narrative) values ($1, $2, $3, 'incident', $4)`,
		id, tenant, w.text("report"), w.long()); err != nil {
		return err
	}
	return w.exec(ctx, `with i as (insert into intake.incidents (report_id, occurred_on, description) values ($1, '2026-03-09', $2) returning id)
		insert into intake.allegations (incident_id, victim_person_id, allegation_types) select id, $3, $4 from i`,
		id, w.maybe(w.text("incident")), seededChild, []string{w.text("allegation"), "a,b"})
}

// address makes a row before the link that gives it its owner.
func (w *writer) address(ctx context.Context) error {
	id := w.id()
	if err := w.exec(ctx, `insert into people.addresses (id, tenant_id, line_1, city, state) values ($1, $2, $3, $4, 'IN')`,
		id, tenant, w.text("street"), w.text("city")); err != nil {
		return err
	}
	return w.exec(ctx, `insert into people.person_addresses (person_id, address_id, started_on) select id, $2, '2026-03-01' from people.people where id = $1`,
		w.pick(w.mine.people), id)
}

// noise is what must not make an entry: columns without audit meaning, saves that change nothing, tables left out.
func (w *writer) noise(ctx context.Context) error {
	switch w.rng.IntN(3) {
	case 0:
		return w.exec(ctx, `update cases.cases set lock_version = lock_version + 1, updated_by_id = $2 where id = $1`, w.pick(w.mine.cases), w.user)
	case 1:
		return w.exec(ctx, `update content.notes set subject = subject where id = $1`, w.pick(w.mine.notes))
	}
	return w.exec(ctx, `insert into ops.notifications (user_id, kind) values ($1, $2)`, w.user, w.text("notice"))
}

// administer changes rows that belong to no record.
func (w *writer) administer(ctx context.Context) error {
	if w.chance(50) {
		return w.exec(ctx, `update membership.users set last_sign_in_at = now(), sign_in_count = sign_in_count + 1 where id = $1`, w.user)
	}
	return w.exec(ctx, `insert into config.field_values (tenant_id, field_key, label) values ($1, 'county', $2) on conflict do nothing`, tenant, w.text("county"))
}

// bulk is one transaction of 20,000 rows.
func (w *writer) bulk(ctx context.Context) error {
	return w.exec(ctx, `update membership.assignment_users set user_id = case user_id when $1::uuid then $2::uuid else $1::uuid end
		where unassigned_at is null`, "20000000-0000-4000-8000-000000000008", w.user)
}
