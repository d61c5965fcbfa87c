package test

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

// atOnce is how many tests run side by side: those in parallel wait most of
// their time, for leases of the dead to end.
const atOnce = 8

func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
