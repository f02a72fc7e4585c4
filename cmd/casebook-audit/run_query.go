package main

import (
	"context"
	"net/http"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

func (d *daemon) queryHandler(ctx context.Context, base *prometheus.Registry) (http.Handler, *pgxpool.Pool, error) {
	return http.NotFoundHandler(), nil, nil
}
