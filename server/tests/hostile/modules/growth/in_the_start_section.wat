;; call run: memory_exceeded
(module
  (memory (export "memory") 1)
  (func $begin
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (start $begin)
  (func (export "run") (result i32) (i32.const 0)))
