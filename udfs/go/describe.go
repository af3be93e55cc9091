package luge

import (
	"strconv"
	"unicode/utf8"
)

// Line is one line of what a module says of itself.
type Line interface{ line() object }

// Describe writes lines to the output. It is the whole of a describer, an export named metadata or metadata_….
func Describe(lines ...Line) int32 {
	rawOutputWrite(text(describe(lines)))
	return 0
}

func describe(lines []Line) []byte {
	var written []byte
	for _, line := range lines {
		written = append(append(written, line.line()...), '}', '\n')
	}
	return written
}

// Isolation is whether instances are kept between requests.
type Isolation string

// What the server knows. [Fresh] is its default.
const (
	Fresh Isolation = "fresh"
	Reuse Isolation = "reuse"
)

// Module describes the module itself.
type Module struct {
	Release     string
	Description string
	Isolation   Isolation
}

func (module Module) line() object {
	inner := object{}.text("release", module.Release).text("description", module.Description)
	inner = inner.text("isolation", string(module.Isolation))
	return object{}.member("module", append(inner.begun(), '}'))
}

// Procedure describes the procedure that an export is.
type Procedure struct {
	// Name is the export's.
	Name        string
	ReadOnly    bool
	Description string
}

func (procedure Procedure) line() object {
	line := object{}.text("procedure", procedure.Name)
	if procedure.ReadOnly {
		line = line.member("read_only", []byte("true"))
	}
	return line.text("description", procedure.Description)
}

// Phase is on which side of a command a hook stands.
type Phase string

// The phases.
const (
	BeforeCommand Phase = "request"
	BehindCommand Phase = "response"
)

// Hook describes the hook that an export is.
type Hook struct {
	// Name is the export's.
	Name     string
	Phase    Phase
	Commands []Command
	// Prefix is what keys begin with; of a call, the procedure's name.
	Prefix string
	// Order is the place among all hooks.
	Order int32
	// FailsOpen passes the hook over where it fails, in place of refusing the request.
	FailsOpen   bool
	Description string
}

func (hook Hook) line() object {
	names := make([]string, len(hook.Commands))
	for at, command := range hook.Commands {
		names[at] = command.String()
	}
	line := object{}.text("hook", hook.Name).text("phase", string(hook.Phase)).texts("commands", names)
	line = line.text("prefix", hook.Prefix)
	if hook.Order != 0 {
		line = line.member("order", strconv.AppendInt(nil, int64(hook.Order), 10))
	}
	if hook.FailsOpen {
		line = line.text("on_failure", "continue")
	}
	return line.text("description", hook.Description)
}

// Grant asks for the keys that begin with these prefixes, and for no others.
type Grant struct {
	Read  []string
	Write []string
}

func (grant Grant) line() object {
	inner := object{}.texts("read", grant.Read).texts("write", grant.Write)
	return object{}.member("grant", append(inner.begun(), '}'))
}

// object is JSON up to the brace that ends it. encoding/json would double what a small module weighs.
type object []byte

func (written object) begun() object {
	if len(written) == 0 {
		return object{'{'}
	}
	return written
}

func (written object) member(name string, value []byte) object {
	if len(written) > 0 {
		written = append(written, ',')
	} else {
		written = written.begun()
	}
	return append(append(appendQuoted(written, name), ':'), value...)
}

// text leaves out what is empty, which is the server's default.
func (written object) text(name, value string) object {
	if value == "" {
		return written
	}
	return written.member(name, appendQuoted(nil, value))
}

func (written object) texts(name string, values []string) object {
	list := []byte{'['}
	for at, value := range values {
		if at > 0 {
			list = append(list, ',')
		}
		list = appendQuoted(list, value)
	}
	return written.member(name, append(list, ']'))
}

// appendQuoted writes a JSON string. What is no UTF-8 becomes the replacement character.
func appendQuoted(written []byte, value string) []byte {
	const hex = "0123456789abcdef"
	written = append(written, '"')
	for _, character := range value {
		switch {
		case character == '"' || character == '\\':
			written = append(written, '\\', byte(character))
		case character < ' ':
			written = append(written, '\\', 'u', '0', '0', hex[character>>4], hex[character&15])
		default:
			written = utf8.AppendRune(written, character)
		}
	}
	return append(written, '"')
}
