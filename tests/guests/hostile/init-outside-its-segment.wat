;; ends: Trap
(data $d "0123")
(func $attack
  (memory.init $d (i32.const 0) (i32.const 2) (i32.const 3)))
