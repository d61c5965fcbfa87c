//go:build race

package servicetest

// RaceEnabled says whether the race detector is on.
const RaceEnabled = true
