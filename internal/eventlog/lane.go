package eventlog

import "github.com/bankfeed/bankfeed"

// Lanes is how many lanes a tenant's log has.
const Lanes = 1

// LaneOf picks the lane of a user. All events of a user share one, so that they
// have one order. The hash is splitmix64's finalizer: numbers in a row spread
// evenly, and it must never change, because it says where rows are.
func LaneOf(user bankfeed.UserID, lanes int) int {
	if lanes <= 1 {
		return 0
	}
	z := uint64(user) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(lanes))
}

// Lane is where a lane begins and ends.
type Lane struct {
	Tenant bankfeed.TenantID
	Number int
	Floor  bankfeed.Position // everything up to here is gone; 0 if nothing is
	Head   bankfeed.Position // the last position given out
}
