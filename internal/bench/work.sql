-- The work of the benchmark: what case workers do all day, by named users, as single rows in transactions of a given size.
create schema bench;

-- Each call keeps to the cases and people of its own part, so that two may run side by side. Each statement changes one
-- row or none; total counts the rows.
create procedure bench.work(total int, per_transaction int, part int, parts int)
language plpgsql as $body$
declare
  users constant text[] := array['20000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000002',
    '20000000-0000-4000-8000-000000000003', '20000000-0000-4000-8000-000000000004', '20000000-0000-4000-8000-000000000005'];
  tenant constant uuid := '10000000-0000-4000-8000-000000000001';
  prose constant text := repeat('Met with the family at home. The mother reports that school attendance is better since the '
    || 'new schedule; counseling goes on each week. Next step: call the landlord about the lease and send the form. ', 3);
  my_cases uuid[];    my_people uuid[];   service bigint;
  my_notes uuid[];    n_notes int;        my_enrollments uuid[]; n_enrollments int;
  my_tasks bigint[];  n_tasks int;        my_involved uuid[];    n_involved int;
  done int := 0;      in_tx int;          n int;              txs int := 0;
  worker uuid;        kind int;           at int;             key uuid;          task bigint;
begin
  perform setseed(part / 10.0);
  select array_agg(id order by id) into my_cases from (select id from cases.cases
    where name like 'Batch case %' and case_number % parts = part order by case_number limit 2000) c;
  select array_agg(id order by id) into my_people from people.people
    where legacy_id like 'ELIG-%' and substr(legacy_id, 6)::int % parts = part;
  select min(id) into service from services.service_types;
  select coalesce(array_agg(id), '{}'), count(*) into my_notes, n_notes from (select id from content.notes
    where notable_type = 'person' and notable_id = any (my_people) order by id limit 20000) x;
  select coalesce(array_agg(id), '{}'), count(*) into my_enrollments, n_enrollments from (select id from services.service_enrollments
    where person_id = any (my_people) order by id limit 20000) x;
  select coalesce(array_agg(id), '{}'), count(*) into my_tasks, n_tasks from (select id from tasks.tasks
    where case_id = any (my_cases) order by id limit 20000) x;
  select coalesce(array_agg(id), '{}'), count(*) into my_involved, n_involved from (select id from cases.case_involvements
    where person_id = any (my_people) order by id limit 20000) x;

  -- Keys are picked ahead of the statement: in its WHERE clause random() would be called for each row.
  while done < total loop
    worker := users[1 + txs % array_length(users, 1)];
    perform set_config('audit.user_id', worker::text, true);
    in_tx := 0;
    while in_tx < per_transaction and done + in_tx < total loop
      kind := floor(random() * 100);
      if kind < 25 or n_notes = 0 then
        insert into content.notes (tenant_id, notable_type, notable_id, note_type, subject, body, contact_at, created_by_id)
          values (tenant, 'person', my_people[1 + floor(random() * array_length(my_people, 1))::int], 'contact', 'Contact ' || txs,
            left(prose, 80 + floor(random() * 400)::int), now(), worker) returning id into key;
        n_notes := n_notes + 1; my_notes[n_notes] := key; n := 1;
      elsif kind < 33 then
        key := my_notes[1 + floor(random() * n_notes)::int];
        update content.notes set subject = 'Contact ' || txs || ', corrected', lock_version = lock_version + 1, updated_by_id = worker
          where id = key;
        get diagnostics n = row_count;
      elsif kind < 45 or n_enrollments = 0 then
        insert into services.service_enrollments (tenant_id, kind, case_id, person_id, service_type_id, status, starts_on, units,
            unit_cost, total_cost, created_by_id)
          values (tenant, 'internal_staff', my_cases[1 + floor(random() * array_length(my_cases, 1))::int],
            my_people[1 + floor(random() * array_length(my_people, 1))::int], service, 'pending', current_date, 4, 85, 340, worker)
          returning id into key;
        n_enrollments := n_enrollments + 1; my_enrollments[n_enrollments] := key; n := 1;
      elsif kind < 62 then
        key := my_enrollments[1 + floor(random() * n_enrollments)::int];
        update services.service_enrollments set units = units + 1, total_cost = (units + 1) * unit_cost, status = 'in_progress',
            lock_version = lock_version + 1, updated_by_id = worker
          where id = key;
        get diagnostics n = row_count;
      elsif kind < 70 or n_tasks = 0 then
        insert into tasks.tasks (tenant_id, case_id, title, description, assignee_user_id, due_on, created_by_id)
          values (tenant, my_cases[1 + floor(random() * array_length(my_cases, 1))::int], 'Prepare the review ' || txs,
            left(prose, 60), worker, current_date + 14, worker) returning id into task;
        n_tasks := n_tasks + 1; my_tasks[n_tasks] := task; n := 1;
      elsif kind < 85 then
        task := my_tasks[1 + floor(random() * n_tasks)::int];
        update tasks.tasks set due_on = due_on + 7, priority = case priority when 'high' then 'normal' else 'high' end::app.priority,
            updated_by_id = worker
          where id = task;
        get diagnostics n = row_count;
      elsif kind < 88 then
        at := 1 + floor(random() * n_tasks)::int;
        delete from tasks.tasks where id = my_tasks[at];
        get diagnostics n = row_count;
        my_tasks[at] := my_tasks[n_tasks]; n_tasks := n_tasks - 1;
      elsif kind < 95 or n_involved = 0 then
        insert into cases.case_involvements (case_id, person_id, involvement_type_id, role_id, created_by_id)
          values (my_cases[1 + floor(random() * array_length(my_cases, 1))::int], my_people[1 + floor(random() * array_length(my_people, 1))::int],
            '30000000-0000-4000-8000-000000000005', '30000000-0000-4000-8000-000000000006', worker)
          on conflict do nothing returning id into key;
        get diagnostics n = row_count;
        if n = 1 then
          n_involved := n_involved + 1; my_involved[n_involved] := key;
        end if;
      elsif kind < 98 then
        key := my_involved[1 + floor(random() * n_involved)::int];
        update cases.case_involvements set ended_on = current_date, end_reason = 'Services completed', updated_by_id = worker
          where id = key and ended_on is null;
        get diagnostics n = row_count;
      else
        at := 1 + floor(random() * n_involved)::int;
        delete from cases.case_involvements where id = my_involved[at];
        get diagnostics n = row_count;
        my_involved[at] := my_involved[n_involved]; n_involved := n_involved - 1;
      end if;
      in_tx := in_tx + n;
    end loop;
    commit;
    done := done + in_tx;
    txs := txs + 1;
  end loop;
end
$body$;

-- What an application has.
create role casebook_app login;
do $$
declare s text;
begin
  for s in select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)' loop
    execute format('grant usage on schema %I to casebook_app', s);
    execute format('grant select, insert, update, delete on all tables in schema %I to casebook_app', s);
    execute format('grant usage on all sequences in schema %I to casebook_app', s);
  end loop;
end $$;
