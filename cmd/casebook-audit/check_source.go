package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/capture"
	"casebook.example/audit/sql/source"
)

// checkSource looks at the audited database as the daemon would.
func (c *checker) checkSource(ctx context.Context) error {
	conn, err := connectAdmin(ctx, "source.dsn", c.cfg.Source.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	role, err := sourceRole(c.cfg)
	if err != nil {
		return err
	}
	cat, err := readSourceCatalog(ctx, conn, role.User, c.cfg.Source.Publication)
	if err != nil {
		return err
	}
	c.source = &side{name: "source"}
	if cat.version < 140000 {
		c.add(finding{severityError, "source-version", fmt.Sprintf("the source is Postgres %d", cat.version/10000),
			"Messages in the stream, which carry the user, exist since 14.", "Upgrade to 14 or later.", nil})
		return nil
	}
	c.findings = append(c.findings, transportFinding("source.dsn", conn.PgConn().Conn())...)
	if c.source.clock, err = readClock(ctx, conn, "the source"); err != nil {
		return fmt.Errorf("ask the source for its time: %w", err)
	}
	if err := c.checkServer(ctx, conn, cat); err != nil {
		return fmt.Errorf("check the source's settings: %w", err)
	}
	c.checkRole(cat)
	c.checkStamps(cat)
	c.checkPublication(cat)
	if err := c.checkMapping(ctx, conn, cat); err != nil {
		return fmt.Errorf("compare the mapping with the source: %w", err)
	}
	c.source.about = fmt.Sprintf("Postgres %d.%d, %d mapped tables, slot %s", cat.version/10000, cat.version%10000,
		len(c.published(cat)), c.cfg.Source.Slot)
	return nil
}

// serverState is what check reads of the source's settings and of its slots.
type serverState struct {
	walLevel, encoding       string
	maxSlots, slots          int
	maxSenders, senders      int
	keepSizeMB, idleTimeoutS int64
	recovery                 bool
	slotInfo                 capture.SlotInfo
	slotFound                bool
	senderTimeoutMS          int64
}

func (c *checker) checkServer(ctx context.Context, conn *pgx.Conn, cat *sourceCatalog) error {
	s := &serverState{}
	err := conn.QueryRow(ctx, `
		SELECT current_setting('wal_level'), current_setting('server_encoding'),
		  current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots)::int,
		  current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)::int,
		  (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
		  coalesce((SELECT setting::int8 FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), 0),
		  (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'), pg_is_in_recovery()`).
		Scan(&s.walLevel, &s.encoding, &s.maxSlots, &s.slots, &s.maxSenders, &s.senders, &s.keepSizeMB, &s.idleTimeoutS,
			&s.senderTimeoutMS, &s.recovery)
	if err != nil {
		return err
	}
	if s.slotInfo, s.slotFound, err = capture.LookupSlot(ctx, conn.PgConn(), c.cfg.Source.Slot); err != nil {
		return err
	}
	c.source.slot, c.source.slotFound = s.slotInfo, s.slotFound
	c.checkSettings(s)
	if s.slotFound {
		c.checkSlot(s, cat)
	}
	return c.checkReplication(ctx, s, cat)
}

func (c *checker) checkSettings(s *serverState) {
	if s.recovery {
		c.add(finding{severityError, "source-standby", "source.dsn leads to a standby",
			"The slot, the triggers and the publication belong to the primary.",
			"Name the primary, or all servers with target_session_attrs=read-write.", nil})
	}
	if s.walLevel != "logical" {
		c.add(finding{severityError, "source-wal-level", "wal_level is " + s.walLevel,
			"Without logical decoding there is no stream of changes to read.",
			"ALTER SYSTEM SET wal_level = logical; then restart the server", nil})
	}
	if s.encoding != "UTF8" {
		level, why := severityWarning, "Text is converted on the way; what UTF-8 cannot hold stops the stream."
		if s.encoding == "SQL_ASCII" {
			level, why = severityError, "SQL_ASCII lets any bytes in; the first that are not UTF-8 stop the stream."
		}
		c.add(finding{level, "source-encoding", "the source's encoding is " + s.encoding, why,
			"Dump the database and load it into one with ENCODING 'UTF8'.", nil})
	}
	if !s.slotFound && s.slots >= s.maxSlots {
		c.add(finding{severityError, "source-slots-free", fmt.Sprintf("all %d replication slots are taken", s.maxSlots),
			"The daemon cannot make its slot.",
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; then restart the server; or drop a slot that nobody reads", s.maxSlots+4), nil})
	}
	if !s.slotInfo.Active && s.senders >= s.maxSenders {
		c.add(finding{severityError, "source-senders-free", fmt.Sprintf("all %d WAL senders are taken", s.maxSenders),
			"The daemon cannot connect to read the stream.",
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; then restart the server", s.maxSenders+4), nil})
	}
	if s.keepSizeMB < 0 {
		c.add(finding{severityWarning, "source-slot-limit", "max_slot_wal_keep_size is not set",
			"While the daemon or the audit database is down, the slot keeps all write-ahead log, until the source's disk is full and the application stands still.",
			"ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf();\n" +
				"Choose what the disk can spare: beyond it the slot is lost, and the log gets a gap entry.", nil})
	}
	if s.idleTimeoutS > 0 {
		c.add(finding{severityWarning, "source-slot-timeout", fmt.Sprintf("idle_replication_slot_timeout is %v", time.Duration(s.idleTimeoutS)*time.Second),
			"A daemon that is down for longer loses its slot, and the log gets a gap.",
			"ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();", nil})
	}
	switch {
	case s.senderTimeoutMS == 0:
		c.add(finding{severityWarning, "source-sender-timeout", "wal_sender_timeout is off",
			"After a broken connection the server does not notice, and the slot stays taken: the daemon cannot come back.",
			"ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();", nil})
	case s.senderTimeoutMS < 10_000:
		c.add(finding{severityWarning, "source-sender-timeout", fmt.Sprintf("wal_sender_timeout is %v", time.Duration(s.senderTimeoutMS)*time.Millisecond),
			"A short pause of the network ends the stream.",
			"ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();", nil})
	}
}

func (c *checker) checkSlot(s *serverState, cat *sourceCatalog) {
	slot, name := s.slotInfo, c.cfg.Source.Slot
	drop := fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", quoteLiteral(name))
	switch {
	case slot.Plugin != "pgoutput" || slot.Database != cat.database:
		c.add(finding{severityError, "source-slot-foreign", fmt.Sprintf("slot %s is of plugin %q and database %q", name, slot.Plugin, slot.Database),
			"It is not the daemon's: somebody else made it.", "Set source.slot to another name, or, when nobody reads it: " + drop, nil})
		return
	case slot.Lost():
		c.add(finding{severityError, "source-slot-lost", fmt.Sprintf("slot %s is lost: the server removed write-ahead log that it still needed", name),
			"What was committed since its last position will never reach the log.",
			drop + "\nThe daemon makes a new one and records the gap.", nil})
		return
	case slot.WALStatus == "unreserved":
		c.add(finding{severityError, "source-slot-behind", fmt.Sprintf("slot %s is beyond max_slot_wal_keep_size (%s are kept for it)", name, size(slot.RetainedBytes)),
			"The next checkpoint may remove what it needs.",
			"Start the daemon, or mend what stops it; meanwhile raise max_slot_wal_keep_size and reload.", nil})
	case slot.SafeWALSize >= 0 && slot.RetainedBytes > slot.SafeWALSize:
		c.add(finding{severityWarning, "source-slot-behind", fmt.Sprintf("slot %s keeps %s of write-ahead log; %s more, and it is lost", name, size(slot.RetainedBytes), size(slot.SafeWALSize)),
			"What is lost there never reaches the log.", "Start the daemon, or mend what stops it.", nil})
	case slot.SafeWALSize < 0 && slot.RetainedBytes > 16<<30:
		c.add(finding{severityWarning, "source-slot-behind", fmt.Sprintf("slot %s keeps %s of write-ahead log", name, size(slot.RetainedBytes)),
			"It grows until the source's disk is full.", "Start the daemon, or mend what stops it.", nil})
	}
	if !slot.Active {
		c.add(finding{severityWarning, "source-slot-inactive", fmt.Sprintf("nobody reads slot %s (%s of write-ahead log are kept for it)", name, size(slot.RetainedBytes)),
			"The log stands still, and the source keeps write-ahead log meanwhile.",
			"Start the daemon: casebook-audit run. If auditing is over: " + drop, nil})
	}
}

// checkReplication opens the connection that the stream will use.
func (c *checker) checkReplication(ctx context.Context, s *serverState, cat *sourceCatalog) error {
	if !cat.role.replication || s.senders >= s.maxSenders {
		return nil // said elsewhere
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	system, err := capture.Identify(ctx, capture.Config{DSN: c.cfg.Source.DSN, Slot: c.cfg.Source.Slot, Publication: c.cfg.Source.Publication})
	if err != nil {
		c.add(finding{severityError, "source-replication", "a replication connection is refused: " + err.Error(),
			"The stream needs one besides the ordinary connection.",
			"In pg_hba.conf let the role in to this database (logical replication uses the database's name there); then SELECT pg_reload_conf();", nil})
		return nil
	}
	c.source.systemID = system.ID
	return nil
}

func (c *checker) checkRole(cat *sourceCatalog) {
	r := cat.role
	name := quoteIdent(r.name)
	if !r.replication {
		mend := fmt.Sprintf("ALTER ROLE %s REPLICATION;", name)
		if r.providerGroup != "" {
			mend = fmt.Sprintf("GRANT %s TO %s;", r.providerGroup, name)
		}
		c.add(finding{severityError, "source-role-replication", "the role of source.dsn may not replicate",
			"The daemon cannot read the stream.", mend, nil})
	}
	if r.super {
		c.add(finding{severityWarning, "source-role-superuser", "the role of source.dsn is a superuser",
			"Whoever gets at the daemon's configuration owns the audited database.",
			"Give the daemon a role of its own: name it in source.dsn and run casebook-audit setup source.", nil})
		return
	}
	var unreadable, hidden, writable []string
	var grants, policies, revokes []string
	schemas := map[string]bool{}
	for _, t := range c.tables {
		rel := cat.rels[t.Name]
		if rel == nil || !t.Published && len(t.Directory) == 0 {
			continue
		}
		if !rel.canUse && !schemas[rel.schema] {
			schemas[rel.schema] = true
			grants = append(grants, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s;", quoteIdent(rel.schema), name))
		}
		if !rel.canSelect {
			grants = append(grants, fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s;", rel.sql, name))
		}
		if !rel.canUse || !rel.canSelect {
			unreadable = append(unreadable, rel.name())
		}
		if rel.rls && !rel.policy && !r.bypassRLS && !rel.canWrite {
			hidden = append(hidden, rel.name())
			policies = append(policies, fmt.Sprintf("CREATE POLICY %s ON %s FOR SELECT TO %s USING (true);", source.Policy, rel.sql, name))
		}
		if rel.canWrite {
			writable = append(writable, rel.name())
			revokes = append(revokes, fmt.Sprintf("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON TABLE %s FROM %s;", rel.sql, name))
		}
	}
	c.addList(severityError, "source-role-select", unreadable, "the role of source.dsn may not read %s",
		"The first start fills the directory of names from the tables themselves.", grants)
	c.addList(severityError, "source-role-rls", hidden, "row-level security hides rows of %s from the role of source.dsn",
		"Names and owners of hidden rows would be unknown to the log.", policies)
	c.addList(severityWarning, "source-role-writes", writable, "the role of source.dsn may change %s",
		"The daemon needs to read only; what it may not do, nobody can make it do.", revokes)
}

// addList adds a finding about tables, if there are any. what holds one %s for their number.
func (c *checker) addList(level severity, code string, objects []string, what, why string, mend []string) {
	if len(objects) == 0 {
		return
	}
	c.add(finding{level, code, fmt.Sprintf(what, fmt.Sprintf("%d %s", len(objects), plural(len(objects), "table"))), why,
		strings.Join(mend, "\n"), objects})
}

// checkStamps looks at what brings the user into the log, apart from the triggers of each table.
func (c *checker) checkStamps(cat *sourceCatalog) {
	plan := &sourcePlan{cat: cat, cfg: c.cfg}
	stamp, unstamped := cat.functions["stamp"], cat.functions["unstamped"]
	switch {
	case plan.functionFault("stamp", source.Stamp) || plan.functionFault("unstamped", source.Unstamped):
		what := "the functions of the stamp triggers are not this version's, or were altered"
		if stamp.body == "" || unstamped.body == "" {
			what = "a function of the stamp triggers is missing"
		}
		c.add(finding{severityError, "source-stamp-function", what,
			"They write the session's user into the write-ahead log: without them changes are unattributed, altered they may say anything.",
			"casebook-audit setup source --apply", nil})
	case !stamp.canEmit:
		c.add(finding{severityError, "source-stamp-rights", "the owner of casebook_audit.stamp() may not execute pg_logical_emit_message",
			"Every change of a published table fails now.",
			fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %s;", strings.Join(cat.signatures(), ", pg_catalog."), quoteIdent(stamp.owner)), nil})
	case !unstamped.public:
		c.add(finding{severityError, "source-stamp-rights", "not every role may execute casebook_audit.unstamped()",
			"Every change of a published table fails now, for the roles that may not.",
			"GRANT EXECUTE ON FUNCTION casebook_audit.unstamped() TO PUBLIC;", nil})
	}
	if viewed := cat.functions["viewed"]; plan.functionFault("viewed", source.Viewed) || !viewed.public {
		c.add(finding{severityWarning, "source-viewed-function", "casebook_audit.viewed() is missing, altered, or not for every role",
			"What the application shows cannot get into the log.", "casebook-audit setup source --apply", nil})
	}
	var public, mend []string
	for _, m := range cat.messages {
		if m.public {
			public = append(public, m.signature)
			mend = append(mend, fmt.Sprintf("REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC;", m.signature))
		}
	}
	if len(public) > 0 {
		c.add(finding{severityWarning, "source-message-public", "any role may execute pg_logical_emit_message",
			"Whoever may, can write a stamp in another's name.",
			strings.Join(mend, "\n") + "\n(or casebook-audit setup source --apply; where the provider keeps the function, this cannot be mended)", public})
	}
	c.checkEventTrigger(cat, plan)
}

func (cat *sourceCatalog) signatures() []string {
	var list []string
	for _, m := range cat.messages {
		list = append(list, m.signature)
	}
	return list
}

// checkEventTrigger: it matters where a published table has partitions.
func (c *checker) checkEventTrigger(cat *sourceCatalog, plan *sourcePlan) {
	partitioned := false
	for _, rel := range c.published(cat) {
		partitioned = partitioned || rel.kind == "p"
	}
	if !partitioned {
		return
	}
	what := ""
	switch {
	case !cat.event.exists:
		what = "there is no event trigger " + source.EventTrigger
	case cat.event.enabled != "A":
		what = "event trigger " + source.EventTrigger + " is not enabled (ALWAYS)"
	case cat.event.function != "casebook_audit.cover_new" || plan.functionFault("cover_new", source.CoverNew(c.cfg.Source.Publication)) ||
		plan.functionFault("cover", source.Cover):
		what = "the functions of event trigger " + source.EventTrigger + " are not this version's, or were altered"
	default:
		return
	}
	c.add(finding{severityWarning, "source-event-trigger", what,
		"A partition that is made later has neither stamps nor old values until somebody notices.",
		"casebook-audit setup source --apply, as a superuser. Where the provider allows no event triggers: run it after each new partition.", nil})
}

func size(bytes int64) string {
	const units = "kMGTP"
	if bytes < 1024 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	value, unit := float64(bytes)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %cB", value, units[unit])
}
