(module
  (import "luge_v1" "input" (func $input (param i32 i32 i32) (result i64)))
  (import "luge_v1" "output_write" (func $output (param i32 i32)))
  (import "luge_v1" "kv_get" (func $get (param i32 i32 i32 i32 i32) (result i64)))
  (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
  (import "luge_v1" "kv_delete" (func $delete (param i32 i32) (result i32)))
  (import "luge_v1" "kv_incr" (func $incr (param i32 i32 i64 i32) (result i32)))
  (import "luge_v1" "kv_scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "luge_v1" "kv_scan_next" (func $next (param i32 i32 i32) (result i64)))
  (import "luge_v1" "kv_scan_close" (func $close (param i32)))
  (import "luge_v1" "context" (func $context (param i32 i32 i32 i32) (result i64)))
  (import "luge_v1" "request_key" (func $key (param i32 i32 i32) (result i64)))
  (import "luge_v1" "request_value" (func $value (param i32 i32 i32) (result i64)))
  (import "luge_v1" "response_status" (func $status (result i32)))
  (memory (export "memory") 2)

  ;; 0: what the module says of itself; 2048: beginnings of keys; 4096: the program, or a hook's key and
  ;; value; 16384: a result, its length in front.
  (data (i32.const 0) "METADATA")
  (data (i32.const 2048) "audit:")
  (data (i32.const 2064) "ghost:")
  (data (i32.const 2080) "echo::")
  (data (i32.const 2096) "v:")
  (func (export "metadata") (result i32)
    (call $output (i32.const 0) (i32.const LENGTH))
    (i32.const 0))

  ;; A program is a list of steps; each is a letter and two texts, the length of each in a byte before it.
  (func $run (export "run") (result i32)
    (local $at i32) (local $end i32) (local $step i32) (local $len i32)
    (local $a i32) (local $a_len i32) (local $b i32) (local $b_len i32)
    (local.set $at (i32.const 4096))
    (local.set $end (i32.add (local.get $at)
      (i32.wrap_i64 (call $input (i32.const 0) (i32.const 4096) (i32.const 8192)))))
    (loop $steps
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
      (local.set $step (i32.load8_u (local.get $at)))
      (local.set $a_len (i32.load8_u (i32.add (local.get $at) (i32.const 1))))
      (local.set $a (i32.add (local.get $at) (i32.const 2)))
      (local.set $b_len (i32.load8_u (i32.add (local.get $a) (local.get $a_len))))
      (local.set $b (i32.add (i32.add (local.get $a) (local.get $a_len)) (i32.const 1)))
      (local.set $at (i32.add (local.get $b) (local.get $b_len)))
      (if (i32.eq (local.get $step) (i32.const 103)) (then ;; g: get
        (local.set $len (i32.wrap_i64 (call $get (local.get $a) (local.get $a_len)
          (i32.const 0) (i32.const 16388) (i32.const 1024))))
        (call $tell (local.get $len))))
      (if (i32.eq (local.get $step) (i32.const 115)) (then ;; s: set
        (call $set (local.get $a) (local.get $a_len) (local.get $b) (local.get $b_len) (i64.const 0))))
      (if (i32.eq (local.get $step) (i32.const 100)) (then ;; d: delete
        (i32.store (i32.const 16388) (call $delete (local.get $a) (local.get $a_len)))
        (call $tell (i32.const 4))))
      (if (i32.eq (local.get $step) (i32.const 105)) (then ;; i: incr
        (drop (call $incr (local.get $a) (local.get $a_len) (i64.const 1) (i32.const 16388)))
        (call $tell (i32.const 8))))
      (if (i32.eq (local.get $step) (i32.const 114)) (then ;; r: range
        (call $range (local.get $a) (local.get $a_len) (local.get $b) (local.get $b_len))))
      (if (i32.eq (local.get $step) (i32.const 97)) (then ;; a: the attempt
        (call $tell (i32.wrap_i64 (call $context (i32.const 6) (i32.const 0) (i32.const 16388) (i32.const 16))))))
      (if (i32.eq (local.get $step) (i32.const 119)) (then ;; w: wait a while, longer for a longer text
        (call $spin (i32.mul (local.get $a_len) (i32.const 500)))))
      (if (i32.eq (local.get $step) (i32.const 112)) (then ;; p: pause, for some milliseconds
        (call $spin (i32.mul (local.get $a_len) (i32.const 100000)))))
      (if (i32.eq (local.get $step) (i32.const 102)) (then (return (i32.const 7)))) ;; f: refuse
      (if (i32.eq (local.get $step) (i32.const 120)) (then (unreachable)))          ;; x: trap
      (br $steps))
    (i32.const 0))

  ;; The same under a description that promises not to write.
  (func (export "peek") (result i32) (call $run))

  ;; Writes the result and its length; -1 stands for nothing.
  (func $tell (param $len i32)
    (i32.store (i32.const 16384) (local.get $len))
    (call $output (i32.const 16384)
      (i32.add (i32.const 4) (select (local.get $len) (i32.const 0) (i32.gt_s (local.get $len) (i32.const 0))))))

  (func $range (param $a i32) (param $a_len i32) (param $b i32) (param $b_len i32)
    (local $scan i32) (local $total i32) (local $len i32)
    (local.set $scan (call $scan (local.get $a) (local.get $a_len) (local.get $b) (local.get $b_len)
      (i32.const 0) (i32.const 0)))
    (block $done (loop $more
      (local.set $len (i32.wrap_i64 (call $next (local.get $scan)
        (i32.add (i32.const 16388) (local.get $total)) (i32.const 8192))))
      (br_if $done (i32.eqz (local.get $len)))
      (local.set $total (i32.add (local.get $total) (local.get $len)))
      (br $more)))
    (call $close (local.get $scan))
    (call $tell (local.get $total)))

  (func $spin (param $left i32)
    (if (i32.eqz (local.get $left)) (then (return)))
    (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))

  ;; Stores the request's value under its key with six bytes in front; answers the value's last digit.
  (func $store (param $front i32) (result i32)
    (local $key_len i32) (local $len i32)
    (i64.store (i32.const 4096) (i64.load (local.get $front)))
    (local.set $key_len (i32.wrap_i64 (call $key (i32.const 0) (i32.const 4102) (i32.const 256))))
    (local.set $len (i32.wrap_i64 (call $value (i32.const 0) (i32.const 5000) (i32.const 256))))
    (call $set (i32.const 4096) (i32.add (local.get $key_len) (i32.const 6))
      (i32.const 5000) (local.get $len) (i64.const 0))
    (i32.load8_u (i32.add (i32.const 4999) (local.get $len))))

  ;; Before a set: writes an audit, and a witness under the value, which is there once.
  (func (export "audit") (result i32)
    (local $len i32)
    (drop (call $store (i32.const 2048)))
    (local.set $len (i32.wrap_i64 (call $value (i32.const 0) (i32.const 4098) (i32.const 256))))
    (i32.store16 (i32.const 4096) (i32.load16_u (i32.const 2096)))
    (call $set (i32.const 4096) (i32.add (local.get $len) (i32.const 2))
      (i32.const 4098) (local.get $len) (i64.const 0))
    (i32.const 0))

  ;; Before a set: where the value ends with 3, fails with a write that nobody must ever see.
  (func (export "ghost") (result i32)
    (local $len i32)
    (local.set $len (i32.wrap_i64 (call $value (i32.const 0) (i32.const 5000) (i32.const 256))))
    (if (i32.eq (i32.load8_u (i32.add (i32.const 4999) (local.get $len))) (i32.const 51)) (then
      (drop (call $store (i32.const 2064)))
      (unreachable)))
    (i32.const 0))

  ;; After a set: writes an echo, and blocks where the value ends with 7.
  (func (export "echo") (result i32)
    (if (call $status) (then (return (i32.const 0))))
    (i32.eq (call $store (i32.const 2080)) (i32.const 55))))
