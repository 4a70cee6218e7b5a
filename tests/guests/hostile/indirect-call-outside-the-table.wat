;; ends: Trap
(type $t (func))
(table 4 funcref)
(func $attack
  (call_indirect (type $t) (i32.const -1)))
