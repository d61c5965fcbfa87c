//go:build !race

package backingtest

// RaceEnabled says whether the race detector is on.
const RaceEnabled = false
