"""An HTTP server over bundles that speaks OpenAI's API: `fastserve-runtime serve`.

Requests are parsed (`openai_requests`) and answered (`openai_responses`) by pure functions; `work_queue` runs them one
at a time for each model in a thread of its own; `routes` joins them. Only `app`, `routes`, `request_body` and `server`
import Starlette and uvicorn, which the extra `serve` brings.
"""
