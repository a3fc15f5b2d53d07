%% Asks for a page again and again. Unless KEEP is "yes", each request asks the server to close the connection.
main(_) ->
    {ok, _} = application:ensure_all_started(inets),
    Headers = case os:getenv("KEEP") of "yes" -> []; _ -> [{"connection", "close"}] end,
    Requests = ask(Headers, erlang:monotonic_time(millisecond) + 7000, 0),
    io:format("{\"requests\": ~b, \"seconds\": 7}~n", [Requests]).

ask(Headers, End, Requests) ->
    case erlang:monotonic_time(millisecond) < End of
        false -> Requests;
        true ->
            {ok, {{_, 200, _}, _, Page}} =
                httpc:request(get, {"http://127.0.0.1:8092/page", Headers}, [], [{body_format, binary}]),
            400 = byte_size(Page),
            timer:sleep(10),
            ask(Headers, End, Requests + 1)
    end.
