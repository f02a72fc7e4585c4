package mapping

import "testing"

func TestTry(t *testing.T) {
	b := newBed(t)
	for _, id := range []string{"S01", "S02", "S03", "S04", "S06", "S07", "S08", "S09", "S10", "S11", "S13"} {
		t.Log(id + "\n" + dump(b.section(t, id)))
	}
}
