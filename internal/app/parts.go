package app

import (
	"context"
	"net/http"
)

type parts struct{}

func (a *App) openParts(context.Context) error { return nil }

func (a *App) mount(mux *http.ServeMux) ([][]byte, error) { return nil, nil }
