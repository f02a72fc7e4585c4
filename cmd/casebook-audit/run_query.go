package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mirror"
	"casebook.example/audit/query"
	"casebook.example/audit/query/page"
)

// accessResource is what the entries of accesses to the log are filed under.
const accessResource = "Audit Log"

// accessWait is how long a request waits for its place in the log before it is refused.
const accessWait = 2 * time.Second

// queryHandler makes the endpoint and the reader's pool, which the caller closes. The pool connects when it is asked.
func (d *daemon) queryHandler(ctx context.Context, reg prometheus.Registerer) (http.Handler, *pgxpool.Pool, error) {
	tokens := &query.Tokens{}
	if file := d.cfg.Query.Auth.TokensFile; file != "" {
		var err error
		if tokens, err = query.LoadTokens(file); err != nil {
			return nil, nil, &exitError{exitUsage, err}
		}
	} else {
		d.log.Warn("query.auth.tokens_file is not set: nobody is let in")
	}
	config, err := pgxpool.ParseConfig(d.cfg.Audit.ReaderDSN)
	if err != nil {
		return nil, nil, &exitError{exitUsage, errors.New("audit.reader_dsn is not a connection string that libpq takes (not shown, as it may hold a password)")}
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "casebook-audit query"
	config.ConnConfig.RuntimeParams["search_path"] = "pg_catalog, pg_temp"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, nil, fmt.Errorf("audit.reader_dsn: %s", connectReason(err))
	}
	service := query.New(query.Config{
		Pool: pool, Chain: d.cfg.Audit.Chain, Tokens: tokens, OnAccess: d.recordAccess, Log: d.log.Named("query"), Reg: reg,
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/", service.Handler())
	mux.Handle("/", page.New(page.Config{
		Service: service, Log: d.log.Named("page"),
		Words: func() (applications, resources []string) {
			rules := d.rules.Load()
			return rules.Applications(), append(rules.Resources(), accessResource)
		},
	}))
	if d.cfg.Query.Tiles == tilesPublic {
		tree := mirror.Handler(pool, d.cfg.Audit.Chain, d.log.Named("mirror"))
		mux.Handle("/checkpoint", tree)
		mux.Handle("/tile/", tree)
	}
	return mux, pool, nil
}

// recordAccess hands an access to the loop, which appends it. A log that nobody appends to right now (it stands by, or
// the audit database is away) does not answer either.
func (d *daemon) recordAccess(ctx context.Context, a query.Access) error {
	text := func(path, value string) ledger.Field {
		return ledger.Field{Path: path, Type: "text", State: ledger.FieldValue, Value: value}
	}
	e := &ledger.Entry{
		Kind: ledger.KindAccess, Resource: accessResource, Action: "query", Summary: "Audit log read", Initiator: ledger.InitiatorApplication, UserName: a.Caller,
		Fields: []ledger.Field{text("access.endpoint", a.Endpoint), text("access.query", a.Query), text("access.tenants", strings.Join(a.Tenants, ","))},
	}
	switch a.Endpoint {
	case "export":
		e.Action, e.Summary = "export", "Audit log exported"
	case "sign-in":
		e.Action, e.Summary = "sign-in", "Signed in to the audit log"
	}
	if a.Refused != "" {
		e.Action, e.Summary, e.Remark = "refused", "Access to the audit log refused", a.Refused
		if a.Caller == "" {
			e.Initiator = ledger.InitiatorUnattributed
		}
	}
	timer := time.NewTimer(accessWait)
	defer timer.Stop()
	select {
	case d.access <- e:
		return nil
	case <-timer.C:
		return errors.New("the log takes no entries right now")
	case <-ctx.Done():
		return ctx.Err()
	}
}
