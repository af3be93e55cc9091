;; call dirty: trap
;; call look: ok
;; The next call is given another instance.
(module
  (import "luge_v1" "output_write" (func $output_write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024)
    "{\"module\": {\"isolation\": \"reuse\"}}\0a"
    "{\"procedure\": \"dirty\"}\0a"
    "{\"procedure\": \"look\"}")
  (func (export "metadata") (result i32)
    (call $output_write (i32.const 1024) (i32.const 79))
    (i32.const 0))
  (table 2 funcref)
  (elem declare func $own)
  (global $left (mut i32) (i32.const 0))
  (func $own)
  (func (export "dirty") (result i32)
    (global.set $left (i32.const 1))
    (i32.store (i32.const 4096) (i32.const -1))
    (drop (memory.grow (i32.const 3)))
    (table.set (i32.const 1) (ref.func $own))
    (drop (table.grow (ref.null func) (i32.const 5)))
    unreachable)
  (func (export "look") (result i32)
    (if (global.get $left) (then (return (i32.const 1))))
    (if (i32.load (i32.const 4096)) (then (return (i32.const 2))))
    (if (i32.ne (memory.size) (i32.const 1)) (then (return (i32.const 3))))
    (if (i32.eqz (ref.is_null (table.get (i32.const 1)))) (then (return (i32.const 4))))
    (if (i32.ne (table.size) (i32.const 2)) (then (return (i32.const 5))))
    (i32.const 0)))
