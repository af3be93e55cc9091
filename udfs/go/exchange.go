package luge

import "unsafe"

// Command is what a part of a request does.
type Command int32

// The commands. Take any other number for a command that a later server has.
const (
	CommandGet Command = iota + 1
	CommandSet
	CommandDel
	CommandExpire
	CommandCall
)

var commandNames = [...]string{"get", "set", "del", "expire", "call"}

// AllCommands are all that a hook can stand around.
var AllCommands = []Command{CommandGet, CommandSet, CommandDel, CommandExpire, CommandCall}

func (command Command) String() string {
	if command < CommandGet || int(command) > len(commandNames) {
		return "other"
	}
	return commandNames[command-1]
}

// Condition is when a set happens.
type Condition int64

// The conditions.
const (
	Always Condition = iota
	IfAbsent
	IfPresent
	IfVersion
)

// The numbers that a request may have.
const (
	ttlArg = iota + 1
	conditionArg
	versionArg
	deltaArg
)

// Request is the part of a request that a hook stands around.
type Request struct{}

// Command is what the part does.
func (Request) Command() Command { return Command(rawRequestCommand()) }

// Key is the key; of a call the procedure's full name, module.procedure.
func (Request) Key() string {
	key, _ := readText(rawRequestKey)
	return key
}

// Value is what a set stores, or the arguments of a call, and whether there is any.
func (Request) Value() ([]byte, bool) { return read(rawRequestValue) }

// Previous is the value that the key had before the request.
func (Request) Previous() ([]byte, bool) { return read(rawRequestPrevious) }

// TTLMillis is the time to live that a set or an expire gives: 0 for none, -1 for the one that the key has.
func (Request) TTLMillis() (int64, bool) { return requestArg(ttlArg) }

// Condition is when a set happens.
func (Request) Condition() (Condition, bool) {
	number, found := requestArg(conditionArg)
	return Condition(number), found
}

// ExpectedVersion is what the condition IfVersion expects.
func (Request) ExpectedVersion() (int64, bool) { return requestArg(versionArg) }

// Delta is what an incr adds.
func (Request) Delta() (int64, bool) { return requestArg(deltaArg) }

// SetValue replaces what a set stores, or the arguments of a call. For request hooks only.
func (Request) SetValue(value []byte) { rawRequestSetValue(text(value)) }

// SetTTLMillis replaces the time to live of a set or an expire. For request hooks only.
func (Request) SetTTLMillis(ms int64) { rawRequestSetTTL(ms) }

func requestArg(field uint32) (int64, bool) {
	var number int64
	found := rawRequestArg(field, unsafe.Pointer(&number)) == 1
	return number, found
}

// Status is how a part ended.
type Status int32

// The statuses. Take any other number for one that a later server has.
const (
	StatusOk Status = iota
	StatusAbsent
	StatusError
	StatusBlocked
	StatusResponded
)

// Response is the part of a request that a hook stands behind, and how it ended.
type Response struct{ request Request }

// Request is what was asked for. It can't be changed any more.
func (response Response) Request() Request { return response.request }

// Status is how the part ended.
func (Response) Status() Status { return Status(rawResponseStatus()) }

// Value is what a get or a call returns; of an error or a block, the code's name.
func (Response) Value() ([]byte, bool) { return read(rawResponseValue) }

// SetValue replaces what a get or a call returns.
func (Response) SetValue(value []byte) { rawResponseSetValue(text(value)) }
