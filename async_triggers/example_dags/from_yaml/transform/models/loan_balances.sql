select customers.name, sum(payments.amount) as paid
from {{ source('loans', 'payments') }} as payments
join {{ source('crm', 'customers') }} as customers
    on customers.id = payments.customer_id
group by customers.name
