package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/bankfeed/bankfeed/internal/bench"
)

func TestEveryBenchHasItsName(t *testing.T) {
	field, ok := reflect.TypeFor[benchCommand]().FieldByName("Name")
	require.True(t, ok)
	require.Equal(t, append(bench.Names(), "all"), strings.Split(field.Tag.Get("enum"), ","))
	for _, name := range bench.Names() {
		require.Contains(t, field.Tag.Get("help"), name)
	}
}
