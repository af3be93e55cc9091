package luge

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestDescribersAreOneObjectALine(t *testing.T) {
	lines := describe([]Line{
		Module{Release: "1.0", Description: "a \"quoted\" \\ line\nand a second", Isolation: Reuse},
		Module{},
		Procedure{Name: "move", ReadOnly: true, Description: "Moves"},
		Hook{Name: "check", Phase: BehindCommand, Commands: AllCommands, Prefix: "é:", Order: -3, FailsOpen: true},
		Grant{Read: []string{"a:", "b:"}},
	})
	expected := []string{
		`{"module": {"release": "1.0", "description": "a \"quoted\" \\ line\nand a second", "isolation": "reuse"}}`,
		`{"module": {}}`,
		`{"procedure": "move", "read_only": true, "description": "Moves"}`,
		`{"hook": "check", "phase": "response", "commands": ["get", "set", "del", "expire", "call"], "prefix": "é:",
			"order": -3, "on_failure": "continue"}`,
		`{"grant": {"read": ["a:", "b:"], "write": []}}`,
	}
	found := strings.Split(strings.TrimSuffix(string(lines), "\n"), "\n")
	if len(found) != len(expected) {
		t.Fatalf("%d lines: %s", len(found), lines)
	}
	for at, line := range found {
		if !reflect.DeepEqual(parsed(t, line), parsed(t, expected[at])) {
			t.Errorf("found %s, expected %s", line, expected[at])
		}
	}
}

func parsed(t *testing.T, line string) (value any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &value); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return value
}

func TestTextsAreQuotedAsJSONDoes(t *testing.T) {
	for character := rune(0); character < 0x300; character++ {
		value := "a" + string(character) + "b"
		if back := parsed(t, string(appendQuoted(nil, value))); back != value {
			t.Errorf("%q became %q", value, back)
		}
	}
	if back := parsed(t, string(appendQuoted(nil, "\xff"))); back != "\ufffd" {
		t.Errorf("found %q", back)
	}
}

func TestNumbersAreReadAsTheServerDoes(t *testing.T) {
	for _, number := range []int64{0, 7, -7, 10, math.MaxInt64, math.MinInt64} {
		if back, valid := ParseNumber(strconv.FormatInt(number, 10)); !valid || back != number {
			t.Errorf("%d became %d, %v", number, back, valid)
		}
	}
	for _, wrong := range []string{"", "-", "+1", "-0", "007", " 1", "1 ", "1.5", "abc", "9223372036854775808"} {
		if number, valid := ParseNumber(wrong); valid {
			t.Errorf("%q is read as %d", wrong, number)
		}
	}
}

func TestTimesToLiveAreRoundedUpAndNeverNone(t *testing.T) {
	for ttl, expected := range map[time.Duration]int64{
		-time.Second: 1, 0: 1, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, time.Minute: 60_000,
	} {
		if found := millis(ttl); found != expected {
			t.Errorf("%v is %d ms, expected %d", ttl, found, expected)
		}
	}
}

func TestAPageIsTakenApartUntilNoMoreIsWanted(t *testing.T) {
	page := "\x01\x00\x00\x00\x02\x00\x00\x00axy" + "\x02\x00\x00\x00\x00\x00\x00\x00bc" + "\x00\x00\x00\x00\x01\x00\x00\x00z"
	for wanted, expected := range []string{"a=xy ", "a=xy bc= ", "a=xy bc= =z "} {
		var found strings.Builder
		more := entries([]byte(page), func(key string, value []byte) bool {
			fmt.Fprintf(&found, "%s=%s ", key, value)
			wanted--
			return wanted >= 0
		})
		if found.String() != expected || more {
			t.Errorf("found %q, expected %q; more: %v", found.String(), expected, more)
		}
	}
	if !entries([]byte(page), func(string, []byte) bool { return true }) {
		t.Error("a page that was wanted whole ends the scan")
	}
}

func TestAPrefixEndsBeforeTheFirstKeyBehindIt(t *testing.T) {
	for prefix, expected := range map[string]string{"": "", "a": "b", "a:": "a;", "a\xff": "b", "\xff\xff": ""} {
		if found := Prefix(prefix); found.Start != prefix || found.End != expected {
			t.Errorf("%q: %+v", prefix, found)
		}
	}
}

func TestScansHaveTheirFlags(t *testing.T) {
	for flags, scan := range []Scan{{}, {Reverse: true}, {KeysOnly: true}, {Reverse: true, KeysOnly: true}} {
		if scan.flags() != uint32(flags) {
			t.Errorf("%+v has %d", scan, scan.flags())
		}
	}
}

func TestErrorsRefuseWithTheirCode(t *testing.T) {
	refusal := &Refusal{Code: 7, Payload: []byte("no")}
	for _, each := range []struct {
		err    error
		code   int32
		output string
	}{
		{nil, 0, "reply"},
		{errors.New("wrong"), 1, "wrong"},
		{refusal, 7, "no"},
		{fmt.Errorf("because: %w", refusal), 7, "no"},
		{&Refusal{Payload: []byte("x")}, 1, "refused: x"},
	} {
		code, output := outcome([]byte("reply"), each.err)
		if code != each.code || string(output) != each.output {
			t.Errorf("%v: %d %q", each.err, code, output)
		}
	}
}

func TestCommandsHaveNames(t *testing.T) {
	if CommandExpire.String() != "expire" || Command(0).String() != "other" || Command(6).String() != "other" {
		t.Error("a name is wrong")
	}
}
