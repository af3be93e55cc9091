;; A request hook: values under mail: are stored in lower case.
(module
  (import "luge_v1" "output_write" (func $write (param i32 i32)))
  (import "luge_v1" "request_value"
    (func $value (param i32 i32 i32) (result i64)))
  (import "luge_v1" "request_set_value" (func $set_value (param i32 i32)))
  (memory (export "memory") 17)

  ;; Run once, when the module is pushed: it says which hooks there are.
  (data (i32.const 0) "{\"hook\": \"lower\", \"phase\": \"request\", "
    "\"commands\": [\"set\"], \"prefix\": \"mail:\"}")
  (func (export "metadata") (result i32)
    (call $write (i32.const 0) (i32.const 77))
    (i32.const 0))

  ;; The value is copied to 1024, changed there, and given back.
  (func (export "lower") (result i32) (local $at i32) (local $end i32)
    (local.set $at (i32.const 1024))
    (local.set $end (i32.add (local.get $at) (i32.wrap_i64
      (call $value (i32.const 0) (local.get $at) (i32.const 1048576)))))
    (block $done (loop $next
      (br_if $done (i32.eq (local.get $at) (local.get $end)))
      (if (i32.lt_u
            (i32.sub (i32.load8_u (local.get $at)) (i32.const 65))
            (i32.const 26))
        (then (i32.store8 (local.get $at)
          (i32.add (i32.load8_u (local.get $at)) (i32.const 32)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (call $set_value
      (i32.const 1024) (i32.sub (local.get $end) (i32.const 1024)))
    (i32.const 0)))
