(module
  (import "luge_v1" "kv_set" (func $set (param i32 i32 i32 i32 i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "trace")

  (func $leave_a_trace ;; kv_set(key, its length, value, its length, ttl)
    (call $set (i32.const 0) (i32.const 5)
               (i32.const 0) (i32.const 5) (i64.const 0)))

  (func $spin (export "spin") (result i32)
    (call $leave_a_trace)
    (loop $again (br $again))
    unreachable)

  (func $swallow (export "swallow") (result i32)
    (call $leave_a_trace)
    (loop $again ;; 1 MiB more each time, until there is no more
      (br_if $again
        (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))
